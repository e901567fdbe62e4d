"""Encodings: how the services' objects look as Redis values (java, json, jwt, hash).

`java` is the default of Spring Data Redis, `json` its GenericJackson2Json serialiser, `jwt` a
plain token string, `bearer` one with that word before it, `zlib` JSON as Lettuce's DEFLATE codec
packs it, `hash` the older script layout.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Callable, Optional, Union

from sandbox.java_stream import (
    DATE,
    LIST,
    STRING,
    JavaClass,
    JavaDate,
    JavaList,
    JavaObject,
    java_bytes,
)
from sandbox.values import Credential, Token, Validation

ENCODINGS = ("java", "json", "jwt", "hash", "bearer", "zlib")
CLAIMS_NAME = "com.payment.common.model.TokenClaims"
EAPI, SAPI = "com.payment.eapi.model", "com.payment.sapi.model"
TOKEN_FIELDS = {
    "tokenString": STRING,
    "claims": "Lcom/payment/common/model/TokenClaims;",
    "expirationTime": DATE,
    "jti": STRING,
    "clientId": STRING,
}
CLAIMS_CLASS = JavaClass(
    CLAIMS_NAME,
    1,
    {
        **dict.fromkeys(("sub", "iss", "aud", "jti"), STRING),
        "exp": DATE,
        "iat": DATE,
        "permissions": LIST,
    },
)
CREDENTIAL_CLASS = JavaClass(
    f"{EAPI}.Credential",
    1,
    {
        **dict.fromkeys(("clientId", "hashedSecret", "version", "rotationState"), STRING),
        "active": "Z",
        **dict.fromkeys(("createdAt", "updatedAt", "expiresAt"), DATE),
    },
)
VALIDATION_CLASS = JavaClass(
    f"{SAPI}.ValidationResult",
    1,
    {
        **dict.fromkeys(("isValid", "isExpired", "isForbidden", "isRenewed"), "Z"),
        "errorMessage": STRING,
        "renewedTokenString": STRING,
    },
)


def _date(epoch: Optional[float]) -> Optional[JavaDate]:
    return None if epoch is None else JavaDate(round(epoch * 1000))


def token_object(token: Token, package: str = EAPI) -> JavaObject:
    """A Token of the EAPI or the SAPI `package` as a Java object."""
    expiry = _date(token.expires_at)
    permissions = None
    if token.permissions is not None:
        permissions = JavaList(list(token.permissions), token.immutable_permissions)
    claims = {
        "sub": token.client_id,
        "iss": "payment-eapi",
        "aud": "payment-sapi",
        "exp": expiry,
        "iat": _date(token.issued_at),
        "jti": token.jti,
        "permissions": permissions,
    }
    return JavaObject(
        JavaClass(f"{package}.Token", 1, TOKEN_FIELDS),
        {
            "tokenString": token.jwt,
            "claims": JavaObject(CLAIMS_CLASS, claims),
            "expirationTime": expiry,
            "jti": token.jti,
            "clientId": token.client_id,
        },
    )


def validation_object(validation: Validation) -> JavaObject:
    """A ValidationResult as a Java object."""
    return JavaObject(VALIDATION_CLASS, validation_fields(validation))


def validation_fields(validation: Validation) -> dict[str, Any]:
    """A ValidationResult under its Java names, which are also those of the HTTP answer."""
    return {
        "isValid": validation.is_valid,
        "isExpired": validation.is_expired,
        "isForbidden": validation.is_forbidden,
        "isRenewed": validation.is_renewed,
        "errorMessage": validation.error_message,
        "renewedTokenString": validation.renewed_token,
    }


def credential_object(credential: Credential) -> JavaObject:
    """A Credential as a Java object."""
    return JavaObject(
        CREDENTIAL_CLASS,
        {
            "clientId": credential.client_id,
            "hashedSecret": credential.hashed_secret,
            "active": credential.active,
            "version": credential.version,
            "rotationState": credential.rotation_state,
            "createdAt": _date(credential.created_at),
            "updatedAt": _date(credential.updated_at),
            "expiresAt": _date(credential.expires_at),
        },
    )


def typed_json(value: Any) -> Any:
    """A Java object as GenericJackson2JsonRedisSerializer writes it: `@class` and wrapped dates."""
    if isinstance(value, JavaObject):
        fields = {name: typed_json(item) for name, item in value.values.items()}
        return {"@class": value.java_class.name, **fields}
    if isinstance(value, JavaDate):
        return ["java.util.Date", value.milliseconds]
    if isinstance(value, JavaList):
        kind = "ImmutableCollections$ListN" if value.immutable else "ArrayList"
        return [f"java.util.{kind}", value.items]
    return value


def _json_bytes(value: JavaObject) -> bytes:
    return json.dumps(typed_json(value), separators=(",", ":"), ensure_ascii=False).encode("utf-8")


WRITERS: dict[str, Callable[[JavaObject], bytes]] = {
    "java": java_bytes,
    "json": _json_bytes,
    "jwt": _json_bytes,  # objects that are no token have no JWT form
    "hash": _json_bytes,
    "bearer": _json_bytes,
    "zlib": lambda value: zlib.compress(_json_bytes(value)),
}


def encode_token(token: Token, encoding: str, package: str = EAPI) -> bytes:
    """The string value of a token key in `encoding` (any but hash)."""
    if encoding in ("jwt", "bearer"):
        return ("Bearer " * (encoding == "bearer") + (token.jwt or "")).encode("ascii")
    return WRITERS[encoding](token_object(token, package))


def token_hash(token: Token) -> dict[str, Union[str, int]]:
    """The hash of `token:{client_id}:{token_id}` in the older layout."""
    return {
        "iat": int(token.issued_at),
        "exp": int(token.expires_at),
        "client_id": token.client_id,
        "jti": token.jti,
    }


def encode_validation(validation: Validation, encoding: str) -> bytes:
    """The value of a `validation:` key."""
    return WRITERS[encoding](validation_object(validation))


def encode_credential(credential: Credential, encoding: str) -> bytes:
    """The value of a `credential:` key."""
    return WRITERS[encoding](credential_object(credential))
