"""What the processor is called and which of its instructions matter to inference."""

from __future__ import annotations

import platform
import subprocess
import sys

import msgspec

from setpoint.machine.files import read_text

_X86_FLAGS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
}
_ARM_FLAGS = {"asimd": "asimd", "asimdhp": "fp16", "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve"}
_LINUX_FLAGS = _X86_FLAGS | _ARM_FLAGS
_SYSCTL_FLAGS = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512",
    "hw.optional.avx512vnni": "avx512_vnni",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_FP16": "fp16",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
}
"""What each system calls a feature → what we call it. One name on every system, so that profiles compare."""

# ARM kernels print numbers, not names. Arm's main ID register documentation; only server cores that clouds rent out.
_ARM_PARTS = {
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
}


class Cpu(msgspec.Struct, frozen=True):
    """A processor.

    Attributes:
        architecture: ``x86_64``, ``aarch64`` or ``arm64``.
        model: its name as far as the system tells it.
        features: the instruction sets that inference engines choose their kernels by, sorted.
    """

    architecture: str
    model: str
    features: tuple[str, ...]


def parse_cpuinfo(text: str, architecture: str) -> Cpu:
    """Read ``/proc/cpuinfo`` of x86 (``flags``) or ARM (``Features``). Only what *every* processor has counts.

    On a machine with unlike cores a thread may run on any of them.
    """
    processors = [_rows(block) for block in text.strip().split("\n\n")]
    flagged = [
        set((rows.get("flags") or rows["Features"]).split())
        for rows in processors
        if "flags" in rows or "Features" in rows
    ]
    flags = set.intersection(*flagged) if flagged else set()
    features = tuple(sorted(ours for theirs, ours in _LINUX_FLAGS.items() if theirs in flags))
    return Cpu(architecture, _model(processors), features)


def _rows(block: str) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in block.splitlines())}


def _model(processors: list[dict[str, str]]) -> str:
    for rows in processors:
        if name := rows.get("model name"):
            return name
        if (implementer := rows.get("CPU implementer")) and (part := rows.get("CPU part")):
            return _ARM_PARTS.get((implementer, part), f"ARM implementer {implementer} part {part}")
    return "unknown"


def parse_sysctl(text: str, architecture: str) -> Cpu:
    """Read the output of macOS's ``sysctl machdep.cpu hw.optional``."""
    rows = _rows(text)
    features = tuple(sorted(ours for theirs, ours in _SYSCTL_FLAGS.items() if rows.get(theirs) == "1"))
    return Cpu(architecture, rows.get("machdep.cpu.brand_string", "unknown"), features)


def read_cpu() -> Cpu:
    """The processor of this machine; an unknown system gives its architecture and no features."""
    architecture = platform.machine()
    if sys.platform == "darwin":
        answer = subprocess.run(
            ["/usr/sbin/sysctl", "machdep.cpu", "hw.optional"], capture_output=True, text=True, check=False
        )
        return parse_sysctl(answer.stdout, architecture)
    return parse_cpuinfo(read_text("/proc/cpuinfo") or "", architecture)
