"""The packing process has its bounds: memory, time, and no network."""

import subprocess
from pathlib import Path

import pytest

from setpoint.core import ConfigurationError
from setpoint.formats import PackOptions, confined, pack_isolated

FORMAT = """
import time

class Format:
    name = "probe"

    def recognises(self, source):
        return source.read_bytes() == b"probe me"

    def pack(self, source, options, workdir):
        {body}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``plugin(statement)`` is a format of another distribution that runs it when it packs; gives a source."""

    def install(body: str) -> Path:
        place = tmp_path / "site"
        (place / "probe-1.dist-info").mkdir(parents=True)
        (place / "probe-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
        (place / "probe-1.dist-info" / "entry_points.txt").write_text("[setpoint.formats]\nprobe = probe_x:Format\n")
        (place / "probe_x.py").write_text(FORMAT.format(body=body))
        monkeypatch.syspath_prepend(str(place))
        source = tmp_path / "source"
        source.write_bytes(b"probe me")
        return source

    return install


def test_more_memory_than_there_may_be_ends_packing_only(
    plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = plugin("self.held = [bytearray(1 << 28) for _ in range(64)]")
    monkeypatch.setattr(confined, "memory_limit_bytes", lambda: 1 << 30)
    with pytest.raises(ConfigurationError, match="it wanted more memory than it may have"):
        pack_isolated(source, PackOptions(), tmp_path)


def test_packing_without_end_is_ended(plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = plugin("time.sleep(600)")
    monkeypatch.setattr("setpoint.formats.isolated.TIME_LIMIT_S", 1.0)
    with pytest.raises(ConfigurationError, match="it took more than 1 s"):
        pack_isolated(source, PackOptions(), tmp_path)


@pytest.mark.parametrize("trust", [False, True])
def test_only_what_is_trusted_sees_a_network(plugin, tmp_path: Path, trust: bool) -> None:
    source = plugin("raise RuntimeError(' '.join(n for _, n in __import__('socket').if_nameindex()))")
    names = subprocess.run(["ls", "/sys/class/net"], capture_output=True, text=True, check=True).stdout.split()
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("this user may make no network namespaces here")
    with pytest.raises(Exception, match="RuntimeError") as caught:
        pack_isolated(source, PackOptions(trust=trust), tmp_path)
    assert all(name in str(caught.value) for name in names) is (trust or names == ["lo"])
