"""Acquire: TLS as we ask for it, and what a live TLS connection shows of itself."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Optional, Tuple

from monitoring.http import certificates
from monitoring.settings import TlsSettings


@dataclass(frozen=True)
class TlsFacts:
    """`expires_at`: epoch seconds of the EARLIEST expiry in `chain` (leaf first, each
    (subject, expires_at)). `complete` False: the leaf alone could be read (Python 3.9)."""

    protocol: str
    expires_at: Optional[float]
    chain: Tuple[Tuple[str, float], ...] = ()
    complete: bool = True


def context(settings: TlsSettings, *, bundle: str = "") -> ssl.SSLContext:
    """A client context: the CA file of `settings`, else `bundle`, else the system's store.

    Raises ValueError, one sentence, when the file cannot be read or holds no certificate."""
    file = settings.ca_file or bundle
    try:
        made = ssl.create_default_context(cafile=file or None)
    except OSError as error:  # ssl.SSLError is one
        why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"CA file {file}: {why}") from None
    if not settings.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def facts(sock: ssl.SSLSocket) -> TlsFacts:
    """Protocol and certificates of a live connection, verified or not."""
    ders, complete = _chain(sock)
    chain = []
    for der in ders:
        try:
            chain.append(certificates.read(der))
        except ValueError:  # an odd certificate is no reason to lose the answer
            complete = False
    earliest = min((expires for _, expires in chain), default=None)
    return TlsFacts(sock.version() or "", earliest, tuple(chain), complete)


def _chain(sock: ssl.SSLSocket) -> Tuple[Tuple[bytes, ...], bool]:
    """DER certificates, leaf first, and whether that is all of them. The verified chain ends in
    the root of our CA file; without verification it is what the server sent."""
    verified = sock.context.verify_mode is not ssl.CERT_NONE
    name = "get_verified_chain" if verified else "get_unverified_chain"
    public = getattr(sock, name, None)  # Python 3.13
    if public is not None:
        return tuple(public()), True
    private = getattr(getattr(sock, "_sslobj", None), name, None)  # 3.10 to 3.12
    if private is not None:
        return tuple(ssl.PEM_cert_to_DER_cert(c.public_bytes()) for c in private() or ()), True
    leaf = sock.getpeercert(binary_form=True)
    return ((leaf,) if leaf else ()), False


#: OpenSSL's X509_V_ERR_...: self-signed leaf or chain, no issuer found (of leaf, of chain).
_UNKNOWN_CA = (18, 19, 20, 21)
#: What OpenSSL makes of plain text.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")


def reason(error: Exception) -> str:
    """Why a handshake failed, as the end of a sentence."""
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = " (is its CA in our CA file?)" if error.verify_code in _UNKNOWN_CA else ""
        return (error.verify_message or "the certificate was not accepted").rstrip(".") + hint
    if isinstance(error, ssl.SSLError):
        if error.reason in _NO_TLS:
            return "this port does not speak TLS"
        return (error.reason or "handshake refused").replace("_", " ").lower()
    if isinstance(error, ConnectionResetError):
        return "the connection was reset during the handshake"
    return "the handshake was broken off"
