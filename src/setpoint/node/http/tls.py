"""The node's certificate: TLS 1.2 and later, HTTP/2 and HTTP/1.1 by agreement (ALPN), renewed without a restart."""

from __future__ import annotations

import ssl
from pathlib import Path

from setpoint.core import InvalidConfiguration

_PROTOCOLS = ["h2", "http/1.1"]
_REMEDY = "give a PEM certificate, with its chain, and its private key (--tls-cert, --tls-key)"


class ServerTls:
    """What a listener encrypts with.

    Attributes:
        context: for the event loop. Its certificate may be renewed while it listens.
        pair: key and certificate as they were read last.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Read the pair.

        Args:
            certificate: PEM, with the chain of those who signed it.
            key: PEM, without a passphrase; None where it stands in the certificate's file.

        Raises:
            InvalidConfiguration: a file cannot be read, or they are no pair; one sentence says which and why.
        """
        self._certificate = certificate
        self._key = key or certificate
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        self.context.set_alpn_protocols(_PROTOCOLS)
        self._load(self.context)

    def reload(self) -> None:
        """Read the pair again; connections made from now on use it.

        Raises:
            InvalidConfiguration: it is no good, and the old one stays.
        """
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # half a pair would otherwise be in use already
        self._load(self.context)

    def _load(self, context: ssl.SSLContext) -> None:
        read = []
        for path, what in ((self._certificate, "certificate"), (self._key, "key")):
            try:
                read.append(path.read_bytes())
            except OSError as error:
                raise InvalidConfiguration(f"cannot read the TLS {what} {path}: {error.strerror}; {_REMEDY}") from error
        try:
            context.load_cert_chain(self._certificate, self._key, password=self._refuse_passphrase)
        except ssl.SSLError as error:
            raise InvalidConfiguration(f"{self._what_is_wrong(error)}; {_REMEDY}") from error
        self.pair = (read[1], read[0])

    def _refuse_passphrase(self) -> str:
        # Left alone, OpenSSL would ask on the terminal, and a node without one would wait for ever.
        raise InvalidConfiguration(
            f"the TLS key {self._key} has a passphrase, which nobody could give when the node starts by itself; "
            "write it without one (openssl pkey -in KEY -out NEW) and let only the node's user read it"
        )

    def _what_is_wrong(self, error: ssl.SSLError) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"the TLS key {self._key} is not that of the certificate {self._certificate}"
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
            return f"the TLS certificate {self._certificate} is too weak ({error.reason.lower().replace('_', ' ')})"
        try:
            probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            probe.load_verify_locations(self._certificate)
        except ssl.SSLError:
            return f"there is no PEM certificate in {self._certificate}"
        return f"there is no PEM private key in {self._key}"
