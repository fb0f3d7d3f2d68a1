"""Certificates: what is wrong with a pair is said in one sentence, and a renewed one is used."""

import ssl
from pathlib import Path

import pytest

from setpoint.core import InvalidConfiguration
from setpoint.node.http import ServerTls

HERE = Path(__file__).resolve().parents[2] / "certificates"


def test_a_pair_and_one_file_with_both_are_read() -> None:
    for tls in (ServerTls(HERE / "node.crt", HERE / "node.key"), ServerTls(HERE / "both.pem", None)):
        assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert tls.context.cert_store_stats()["x509"] == 0


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("missing.crt", "node.key", "cannot read the TLS certificate .*missing.crt: No such file"),
        ("node.crt", "missing.key", "cannot read the TLS key .*missing.key: No such file"),
        (".", "node.key", "cannot read the TLS certificate .*: Is a directory"),
        ("node.crt", "renewed.key", "renewed.key is not that of the certificate .*node.crt"),
        ("node.crt", "locked.key", "locked.key has a passphrase"),
        ("README.md", "node.key", "no PEM certificate in .*README.md"),
        ("node.key", "node.key", "no PEM certificate in .*node.key"),
        ("node.crt", "README.md", "no PEM private key in .*README.md"),
        ("node.crt", None, "no PEM private key in .*node.crt"),
    ],
)
def test_what_is_wrong_is_said(certificate: str, key: str | None, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said) as raised:
        ServerTls(HERE / certificate, HERE / key if key else None)
    assert "\n" not in raised.value.message


def test_a_pair_that_cannot_be_renewed_stays(tmp_path: Path) -> None:
    certificate, key = tmp_path / "crt", tmp_path / "key"
    certificate.write_bytes((HERE / "node.crt").read_bytes())
    key.write_bytes((HERE / "node.key").read_bytes())
    tls = ServerTls(certificate, key)
    before = tls.pair
    certificate.write_bytes((HERE / "renewed.crt").read_bytes())
    with pytest.raises(InvalidConfiguration, match="is not that of the certificate"):
        tls.reload()
    assert tls.pair == before
    key.write_bytes((HERE / "renewed.key").read_bytes())
    tls.reload()
    assert tls.pair != before
