"""CPU features are read under one name on every system, and only what all processors share counts."""

from setpoint.machine.cpu import parse_cpuinfo, parse_sysctl

SAPPHIRE_RAPIDS = """\
processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: fpu sse2 avx2 avx512f avx512dq avx_vnni avx512_bf16 avx512_vnni avx512_fp16 amx_bf16 amx_tile amx_int8
bugs		: spectre_v1

processor	: 1
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: fpu sse2 avx2 avx512f avx512dq avx_vnni avx512_bf16 avx512_vnni avx512_fp16 amx_bf16 amx_tile amx_int8
"""

GRAVITON_3 = """\
processor	: 0
BogoMIPS	: 2100.00
Features	: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm dcpop sve asimdfhm i8mm bf16 asimddp rng
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd40
CPU revision	: 1
"""

RASPBERRY_PI_4 = """\
processor	: 0
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU part	: 0xd08

Hardware	: BCM2835
Model		: Raspberry Pi 4 Model B Rev 1.4
"""

UNLIKE_CORES = """\
processor	: 0
Features	: fp asimd asimddp i8mm

processor	: 1
Features	: fp asimd asimddp
"""

APPLE_M2 = """\
machdep.cpu.cores_per_package: 8
machdep.cpu.brand_string: Apple M2
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
hw.optional.AdvSIMD: 1
"""


def test_x86_flags_become_features() -> None:
    cpu = parse_cpuinfo(SAPPHIRE_RAPIDS, "x86_64")
    assert cpu.model == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert cpu.features == (
        "amx_bf16",
        "amx_int8",
        "avx2",
        "avx512",
        "avx512_bf16",
        "avx512_fp16",
        "avx512_vnni",
        "avx_vnni",
    )


def test_arm_features_and_part_number_are_named() -> None:
    cpu = parse_cpuinfo(GRAVITON_3, "aarch64")
    assert (cpu.model, cpu.features) == ("Neoverse-V1", ("asimd", "bf16", "dotprod", "fp16", "i8mm", "sve"))


def test_a_core_without_dot_product_has_none() -> None:
    cpu = parse_cpuinfo(RASPBERRY_PI_4, "aarch64")
    assert (cpu.model, cpu.features) == ("Cortex-A72", ("asimd",))


def test_only_what_every_core_has_counts() -> None:
    assert parse_cpuinfo(UNLIKE_CORES, "aarch64").features == ("asimd", "dotprod")


def test_an_unlisted_arm_core_is_told_by_its_numbers() -> None:
    assert parse_cpuinfo("CPU implementer : 0x46\nCPU part : 0x001", "aarch64").model == (
        "ARM implementer 0x46 part 0x001"
    )


def test_macos_uses_the_same_names() -> None:
    cpu = parse_sysctl(APPLE_M2, "arm64")
    assert (cpu.model, cpu.features) == ("Apple M2", ("asimd", "bf16", "dotprod", "i8mm"))


def test_an_unknown_system_is_unknown_and_not_an_error() -> None:
    for cpu in (parse_cpuinfo("", "riscv64"), parse_sysctl("", "riscv64")):
        assert (cpu.model, cpu.features) == ("unknown", ())
