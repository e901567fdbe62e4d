"""Decision: the frozen values that come out of a decoded cache entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, List, Literal, Optional, Tuple, Type, Union

import msgspec

# Why a value could not be read. These words are labels of findings: keep them few and stable.
Reason = Literal[
    "empty",
    "too_large",
    "not_a_token",
    "encrypted",
    "bad_base64",
    "bad_json",
    "bad_claims",
    "bad_time",
    "bad_gzip",
    "bad_java",
    "bad_hash",
    "wrong_type",
]
Encoding = Literal["jwt", "json", "java", "hash", "jwt+gzip", "json+gzip", "java+gzip", "unknown"]
ValidationReason = Literal[
    "ok",
    "expired",
    "invalid_signature",
    "invalid_claims",
    "revoked",
    "parse_error",
    "forbidden",
    "unknown",
]


if TYPE_CHECKING:
    _Text = str
    _Time = Optional[float]
    _Alg = Optional[str]
    _Encoding = Encoding
    _Reason = Optional[Reason]
else:
    # What a claim may be to be taken as it is, checked by msgspec while it decodes. The last three
    # are ours and no claims: nothing in a token can set them.
    _Text = Annotated[str, msgspec.Meta(max_length=256)]
    _Time = Optional[Annotated[int, msgspec.Meta(ge=0, lt=10**11)]]
    _Alg = None
    _Encoding = Literal["jwt"]
    _Reason = None


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """One cached token, as far as it could be read. None means: the value did not say.

    Times are epoch seconds. ``reason`` is None for a token that was read; otherwise it names why
    not, and every other field except ``encoding`` is None. ``alg`` is "none" for an unsigned JWT
    and None where there is no JWT. ``scope`` is OAuth's claim as a JWT has it; elsewhere its words
    are among the ``permissions``.

    The type is also what the claims of a JWT are decoded into directly: one object per token is
    what a million tokens in seconds can afford.
    """

    # In the order in which the services write them: msgspec looks there first.
    client: Optional[_Text] = msgspec.field(default=None, name="sub")
    iss: Optional[_Text] = None
    aud: Union[_Text, Tuple[_Text, ...], None] = None
    exp: _Time = None
    iat: _Time = None
    jti: Optional[_Text] = None
    permissions: Optional[Tuple[_Text, ...]] = None
    version: Optional[_Text] = msgspec.field(default=None, name="credential_version")
    scope: Union[_Text, Tuple[_Text, ...], None] = None
    alg: _Alg = msgspec.field(default=None, name="~alg")
    encoding: _Encoding = msgspec.field(default="jwt", name="~encoding")
    reason: _Reason = msgspec.field(default=None, name="~reason")


class Expectation:
    """The claims that a policy calls ordinary, built into a decoder.

    ``kind`` is a subtype of Decoded: a token of it has the issuer, the audience and none but the
    permissions named here, a client, an id, both times, and one of ``algorithms`` (empty: any
    signature). The check of claims costs nothing, for msgspec makes it while it reads.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        permissions: Tuple[str, ...],
        algorithms: Tuple[str, ...],
    ) -> None:
        self._algorithms = algorithms
        time_claim = Annotated[int, msgspec.Meta(ge=0, lt=10**11)]
        named = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
        fields: List[Any] = [
            ("client", named, msgspec.field(name="sub")),
            ("iss", Literal[issuer] if issuer else _Text),  # type: ignore[valid-type]
            ("aud", Literal[audience] if audience else _Text),  # type: ignore[valid-type]
            ("exp", time_claim),
            ("iat", time_claim),
            ("jti", named),
            ("permissions", _some_of(permissions), None),
            ("version", Optional[_Text], msgspec.field(default=None, name="credential_version")),
            ("scope", None, None),
            ("alg", None, msgspec.field(default=None, name="~alg")),
            ("encoding", Literal["jwt"], msgspec.field(default="jwt", name="~encoding")),
            ("reason", None, msgspec.field(default=None, name="~reason")),
        ]
        self.kind: Type[Decoded] = msgspec.defstruct(
            "ExpectedToken", fields, bases=(Decoded,), frozen=True, gc=False, kw_only=True
        )  # type: ignore[assignment]
        self.decode = msgspec.json.Decoder(self.kind).decode

    def meets(self, algorithm: str) -> bool:
        """Whether a token signed so may be of ``kind``; an unsigned one never is."""
        if self._algorithms and algorithm not in self._algorithms:
            return False
        return algorithm.lower() != "none"


def _some_of(words: Tuple[str, ...]) -> object:
    word = Literal[words] if words else _Text  # type: ignore[valid-type]
    return Optional[Tuple[word, ...]]  # type: ignore[valid-type]


class Undecodable(msgspec.Struct, frozen=True, gc=False):
    """A validation or credential entry that could not be read, and the word that says why."""

    reason: Reason


class ValidationFact(msgspec.Struct, frozen=True, gc=False):
    """One cached verdict of the validating service. ``reason`` is "ok" exactly when valid."""

    valid: bool
    reason: ValidationReason
    renewed: bool


class CredentialFact(msgspec.Struct, frozen=True, gc=False):
    """One cached credential, without its secret's hash. Times are epoch seconds or None.

    ``rotation_state`` is lower case ("dual_active", "old_deprecated", ...) or None.
    """

    client: Optional[str]
    active: Optional[bool]
    version: Optional[str]
    rotation_state: Optional[str]
    created_at: Optional[float]
    updated_at: Optional[float]
    expires_at: Optional[float]


def undecodable(reason: Reason, encoding: Encoding = "unknown") -> Decoded:
    return Decoded(encoding=encoding, reason=reason)
