"""Decision: a JWT as text, read and never trusted: no signature is checked here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

import msgspec
from msgspec import ValidationError
from msgspec.structs import force_setattr

from monitoring.tokens.codecs.facts import (
    ClaimNames,
    Decoded,
    Encoding,
    Expectation,
    Reason,
    undecodable,
)
from monitoring.tokens.codecs.records import TEXT_LIMIT, USUAL, from_claims

_URL_SAFE = bytes.maketrans(b"-_", b"+/")
VALUE_LIMIT = 64 * 1024
#: A JWT's first bytes: of {" in base64, and of { before white space, as pretty printers write it.
JWT_BEGINNINGS = (b"eyJ", b"eyA", b"ewo", b"ew0", b"ewk")
#: In lower case; some keep a whole Authorization header.
BEARER = b"bearer "
_HEADERS_KEPT = 256
_TEXTS_KEPT = 64
_E = ord("e")  # of "eyJ", which is '{"' in base64
_HYPHEN, _UNDERSCORE, _DOT = b"-_."  # as numbers: looking for one byte is ten times faster so

_anything = msgspec.json.Decoder().decode
# msgspec reads base64 in a JSON string twice as fast as binascii does, and strictly.
_base64 = msgspec.json.Decoder(bytes).decode
_QUOTED = (b'"%b"', b'"%b==="', b'"%b=="', b'"%b="')

# The header segment is the same few bytes in every token of a deployment: decoded once each.
_algorithms: dict[bytes, str] = {}


# What an odd value may raise on the straight road; each of them only means "take the long one".
_ODD = (ValueError, TypeError, KeyError, IndexError, msgspec.MsgspecError)


class RefusedError(ValueError):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_jwt(value: bytes, encoding: Encoding = "jwt", names: ClaimNames = USUAL) -> Decoded:
    """The claims of one JWT; ``encoding`` says what it was wrapped in. Never raises."""
    try:
        return _read(value, encoding, names)
    except RefusedError as refused:
        return undecodable(refused.reason, encoding)


def decode_jwts(
    values: Sequence[Optional[bytes]],
    unwrap: Callable[[bytes], tuple[bytes, Encoding]],
    otherwise: Callable[[Optional[bytes]], Decoded],
    expect: Expectation,
) -> list[Decoded]:
    """One Decoded per value, in order.

    ``unwrap`` cuts the JWT out of a value that does not begin with one, or raises ValueError;
    what is not an ordinary JWT then goes to ``otherwise``. This is the loop of a million tokens:
    its body is unrolled on purpose, for a call per token would cost more than the base64.
    """
    decoded: list[Decoded] = []
    keep = decoded.append
    base64, set_field = _base64, force_setattr
    quoted, longest = _QUOTED, VALUE_LIMIT
    plain = expect.plain
    header_before, algorithm, claims = b"", "", plain
    for value in values:
        try:
            wrapped = None
            jwt: bytes = value  # type: ignore[assignment]
            if len(jwt) > longest:
                raise ValueError
            if jwt[0] != _E:
                jwt, wrapped = unwrap(jwt)
            header, _dot, rest = jwt.partition(b".")
            if header != header_before:
                algorithm = _algorithms[header]
                claims = expect.decode if expect.meets(algorithm) else plain
                header_before = header
            body, dot, signature = rest.partition(b".")
            if _UNDERSCORE in body or _HYPHEN in body:
                body = body.translate(_URL_SAFE)
            raw = base64(quoted[len(body) & 3] % body)
            try:
                token = claims(raw)
            except ValidationError:
                token = plain(raw)
            set_field(token, "alg", algorithm)
            if wrapped is not None:
                set_field(token, "encoding", wrapped)
            if not token.client or not dot or _DOT in signature:
                raise ValueError
        except _ODD:
            token = otherwise(value)
        keep(token)
    return decoded


def bare_jwt(text: bytes) -> Optional[bytes]:
    """The JWT that ``text`` is, without the word Bearer before it; None when it is none."""
    text = text.strip()
    if text[: len(BEARER)].lower() == BEARER:
        text = text[len(BEARER) :].lstrip()
    return text if text.startswith(JWT_BEGINNINGS) and text.count(b".") == 2 else None


def texts_within(jwt: bytes) -> dict[str, str]:
    """The short texts among the claims of a JWT, by name, those of a nested object as
    ``outer.inner``; empty for what cannot be read."""
    try:
        claims = _json(_unpack(jwt.split(b".", 2)[1]))
    except (RefusedError, IndexError):
        return {}
    found: dict[str, str] = {}
    for name, value in claims.items() if isinstance(claims, dict) else ():
        nested = value.items() if isinstance(value, dict) else ((None, value),)
        for inner, text in nested:
            if isinstance(text, str) and 0 < len(text) <= TEXT_LIMIT and len(found) < _TEXTS_KEPT:
                found[name if inner is None else f"{name}.{inner}"] = text
    return found


def algorithm_and_key(jwt: bytes) -> tuple[str, str]:
    """The `alg` and the `kid` of a JWT's header, empty where they cannot be read."""
    try:
        header = _json(_unpack(jwt.partition(b".")[0]))
    except RefusedError:
        return "", ""
    found = header if isinstance(header, dict) else {}
    alg, kid = found.get("alg"), found.get("kid")
    return (alg if isinstance(alg, str) else "", kid if isinstance(kid, str) else "")


def jwt_within(data: bytes, start: int, end: int) -> Optional[bytes]:
    """``data[start:end]`` when it has the shape of a signed JWT, else None."""
    text = data[start:end]
    return text if text.count(b".") == 2 and len(text) == end - start else None


def _read(value: bytes, encoding: Encoding, names: ClaimNames) -> Decoded:
    segments = value.strip().split(b".", 5)
    if len(segments) == 5:
        raise RefusedError("encrypted")
    if len(segments) != 3:
        raise RefusedError("not_a_token")
    algorithm = _algorithm(segments[0])
    claims = _json(_unpack(segments[1]))
    if not isinstance(claims, dict):
        raise RefusedError("bad_claims")
    token = from_claims(claims, encoding, names)
    force_setattr(token, "alg", algorithm)
    return token


def _algorithm(header: bytes) -> str:
    known = _algorithms.get(header)
    if known is not None:
        return known
    content = _json(_unpack(header))
    if not isinstance(content, dict):
        raise RefusedError("bad_claims")
    algorithm = str(content.get("alg") or "none")[:32]
    if len(_algorithms) >= _HEADERS_KEPT:  # a header per token (a "kid") must not fill the memory
        _algorithms.clear()
    _algorithms[header] = algorithm
    return algorithm


def _unpack(segment: bytes) -> bytes:
    body = segment.rstrip(b"=").translate(_URL_SAFE)
    try:
        return _base64(_QUOTED[len(body) & 3] % body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise RefusedError("bad_base64") from None


def _json(raw: bytes) -> object:
    try:
        return _anything(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RefusedError("bad_json") from None
