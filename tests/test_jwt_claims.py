"""The canary's token taken apart, and the forgeries made of it."""

from __future__ import annotations

import base64
import json

import pytest

from monitoring.health.login_probe import decode, epoch, expired, tampered, unsigned
from sandbox import jwt_codec

KEY = b"k" * 32
NOW = 1_795_400_000.0
CLAIMS = {"sub": "c1", "iat": int(NOW), "exp": int(NOW) + 3600, "permissions": ["view_status"]}
TOKEN = jwt_codec.sign(KEY, CLAIMS)


def part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_a_token_is_read():
    jwt = decode(TOKEN)
    assert jwt.claims == CLAIMS
    assert jwt.header["alg"] == "HS256"
    assert TOKEN.split(".")[1] not in repr(jwt)


@pytest.mark.parametrize(
    "token",
    [
        None,
        42,
        "",
        "opaque",
        "a.b",
        "a.b.c.d",
        f"{part({})}.!!!!.x",
        f"{part({})}.{part(b'not json')}.x",
        f"{part({})}.{part([1])}.x",
        f"{part({})}.{part(b'[' * 9000)}.x",
        f"{part({})}.{part(bytes([255] * 3))}.x",
        f"{part({'pad': 'x' * 20000})}.{part({})}.x",
        "é.é.é",
    ],
)
def test_what_is_no_token_is_none(token):
    assert decode(token) is None


@pytest.mark.parametrize("forge", [tampered, unsigned, lambda jwt: expired(jwt, NOW)])
def test_forgeries_are_refused_by_whoever_checks(forge):
    forged = forge(decode(TOKEN))
    assert forged != TOKEN
    assert decode(forged) is not None  # well formed: refused for what it says, not for its shape
    with pytest.raises(jwt_codec.TokenRejectedError):
        jwt_codec.verify(KEY, forged, NOW)


def test_each_forgery_is_what_it_says():
    jwt = decode(TOKEN)
    assert decode(tampered(jwt)).claims["permissions"] == ["view_status", "admin"]
    assert tampered(jwt).split(".")[2] == TOKEN.split(".")[2]
    assert decode(expired(jwt, NOW)).claims["exp"] < NOW
    assert decode(unsigned(jwt)).header["alg"] == "none"
    assert unsigned(jwt).endswith(".")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1795400000, NOW), (1795400000000, NOW), (1.5, 1.5), (True, None), ("1", None), (None, None)],
)
def test_epoch(value, seconds):
    assert epoch(value) == seconds
