"""Acquire: TLS as we ask for it, and what a live TLS connection shows of itself."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

from monitoring.config.settings import TlsSettings
from monitoring.text import printable

# -- what a certificate in DER says of itself: its subject and when it expires.
# Python shows the fields of a certificate only after it was verified, and those of the chain above
# the leaf not at all before 3.13. Two fields are worth a forty-line reader.

_SEQUENCE, _SET, _OID, _VERSION = 0x30, 0x31, 0x06, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_COMMON_NAME = b"\x55\x04\x03"
_TEXT = {0x1E: "utf-16-be", 0x1C: "utf-32-be"}  # BMPString, UniversalString; the rest is UTF-8


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size = int.from_bytes(data[at : at + width], "big")
            at += width
        if at + size > len(data):
            raise ValueError("truncated certificate")
        yield tag, data[at : at + size]
        at += size


def _only(data: bytes, tag: int) -> bytes:
    found, value = next(_items(data), (-1, b""))
    if found != tag:
        raise ValueError("not a certificate")
    return value


def _moment(tag: int, value: bytes) -> float:
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits: 50 and above are of the last century (RFC 5280, 4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("not a time")
    moment = datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
    return moment.timestamp()


def _name(data: bytes) -> str:
    """The common name, else the first value of the name, else ''."""
    values = []
    for _, relative in _items(data):
        for _, pair in _items(relative):
            (_, kind), (tag, value) = list(_items(pair))[:2]
            values.append((kind != _COMMON_NAME, value.decode(_TEXT.get(tag, "utf-8"), "replace")))
    text = min(values, key=lambda v: v[0])[1] if values else ""
    return printable(text, 120)


def read(der: bytes) -> tuple[str, float]:
    """(subject, expiry in epoch seconds). Raises ValueError for anything but a certificate."""
    try:
        fields = list(_items(_only(_only(der, _SEQUENCE), _SEQUENCE)))
        if fields[0][0] == _VERSION:  # optional, absent in version 1
            del fields[0]
        validity, subject = fields[3][1], fields[4][1]
        (_, _), (tag, until) = list(_items(validity))[:2]
        return _name(subject), _moment(tag, until)
    except (IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError("not a certificate") from error


@dataclass(frozen=True)
class TlsFacts:
    """`expires_at`: epoch seconds of the EARLIEST expiry in `chain` (leaf first, each
    (subject, expires_at)). `complete` False: the leaf alone could be read (Python 3.9)."""

    protocol: str
    expires_at: Optional[float]
    chain: tuple[tuple[str, float], ...] = ()
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
            chain.append(read(der))
        except ValueError:  # an odd certificate is no reason to lose the answer
            complete = False
    earliest = min((expires for _, expires in chain), default=None)
    return TlsFacts(sock.version() or "", earliest, tuple(chain), complete)


def _chain(sock: ssl.SSLSocket) -> tuple[tuple[bytes, ...], bool]:
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
