"""The sandbox writes what the Java services write: the fixtures are reproduced byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import pytest

from sandbox.encodings import (
    EAPI,
    SAPI,
    encode_credential,
    encode_token,
    encode_validation,
    token_hash,
)
from sandbox.java_stream import java_bytes, modified_utf8
from sandbox.jwt_codec import segment
from sandbox.values import PERMISSIONS, Credential, Token, Validation

FIXTURES = Path(__file__).parent / "data" / "java-serialised"
ISSUED = 1795400000
DAY = 86400
HASH = "$2a$10$notARealHashNotARealHashNotARealHashNotARealHash"


def jwt(client: str, jti: str, life: int) -> str:
    """The token of WriteFixtures.java: right in shape, no signature."""
    claims = {
        "sub": client,
        "iss": "payment-eapi",
        "aud": "payment-sapi",
        "exp": ISSUED + life,
        "iat": ISSUED,
        "jti": jti,
        "permissions": list(PERMISSIONS),
    }
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    texts = (json.dumps(part, separators=(",", ":"), ensure_ascii=False) for part in parts)
    head, body = (segment(text.encode()) for text in texts)
    return f"{head}.{body}.{segment(f'not-a-real-signature-{jti}'.encode())}"


def token(client: str, number: int, life: int = 3600, **more: object) -> Token:
    jti = f"0b9f7c1e-000{number}"
    fields = {"jwt": jwt(client, jti, life), "jti": jti, "client_id": client}
    times = {"issued_at": ISSUED, "expires_at": ISSUED + life}
    return Token(**{**fields, **times, **more})  # type: ignore[arg-type]


def credential(
    number: int, version: str, state: Optional[str], *, age: int, left: Optional[int]
) -> Credential:
    return Credential(
        client_id=f"client-00{number}",
        hashed_secret=HASH,
        active=number != 4,
        version=version,
        rotation_state=state,
        created_at=ISSUED - age * DAY,
        updated_at=ISSUED,
        expires_at=None if left is None else ISSUED + left * DAY,
    )


TOKENS = {
    "eapi-token": (token("client-001", 1), EAPI),
    "eapi-token-immutable-list": (
        token("client-002", 2, permissions=("process_payment",), immutable_permissions=True),
        EAPI,
    ),
    "eapi-token-unicode-client": (token("клиент-é", 3, 900, permissions=()), EAPI),
    "eapi-token-without-jwt": (token("client-004", 5, jwt=None, permissions=None), EAPI),
    "sapi-token": (token("client-001", 4, permissions=("view_status",)), SAPI),
}
VALIDATIONS = {
    "valid": Validation(True),
    "invalid": Validation(False, error_message="Invalid token signature"),
    "expired": Validation(False, is_expired=True, error_message="Token has expired"),
    "forbidden": Validation(False, is_forbidden=True, error_message="Insufficient permissions"),
    "renewed": Validation(
        True, is_renewed=True, renewed_token=jwt("client-001", "0b9f7c1e-0006", 3600)
    ),
}
CREDENTIALS = {
    "active": credential(1, "v3", None, age=42, left=48),
    "dual-active": credential(2, "v4", "DUAL_ACTIVE", age=91, left=None),
    "old-deprecated": credential(3, "v7", "OLD_DEPRECATED", age=120, left=0),
    "inactive": credential(4, "v1", None, age=400, left=-30),
}


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_what_java_writes(name: str) -> None:
    value, package = TOKENS[name]
    assert encode_token(value, "java", package) == fixture(name)


@pytest.mark.parametrize("name", VALIDATIONS)
def test_validations_are_what_java_writes(name: str) -> None:
    assert encode_validation(VALIDATIONS[name], "java") == fixture(f"validation-{name}")


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_are_what_java_writes(name: str) -> None:
    assert encode_credential(CREDENTIALS[name], "java") == fixture(f"credential-{name}")


def test_every_fixture_is_reproduced() -> None:
    assert java_bytes("client-001") == fixture("string")
    covered = {*TOKENS, *(f"validation-{n}" for n in VALIDATIONS), "string"}
    covered |= {f"credential-{name}" for name in CREDENTIALS}
    assert covered == {path.stem for path in FIXTURES.glob("*.bin")}


def test_modified_utf8_differs_where_java_differs() -> None:
    assert modified_utf8("a\0é") == b"a\xc0\x80\xc3\xa9"
    assert modified_utf8("😀") == b"\xed\xa0\xbd\xed\xb8\x80"


def test_a_string_beyond_64_kib_is_a_long_string() -> None:
    stream = java_bytes("x" * 70000)
    assert stream[4:5] == b"\x7c"
    assert int.from_bytes(stream[5:13], "big") == 70000


def test_json_carries_classes_and_wrapped_dates() -> None:
    value = json.loads(encode_token(TOKENS["eapi-token"][0], "json"))
    assert value["@class"] == "com.payment.eapi.model.Token"
    assert value["expirationTime"] == ["java.util.Date", (ISSUED + 3600) * 1000]
    assert value["claims"]["permissions"] == ["java.util.ArrayList", list(PERMISSIONS)]


def test_jwt_is_the_bare_string_and_hash_has_epoch_seconds() -> None:
    value = TOKENS["eapi-token"][0]
    assert encode_token(value, "jwt") == value.jwt.encode()
    assert token_hash(value)["exp"] == ISSUED + 3600
