"""Decision: the frozen values that come out of a decoded cache entry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union

import msgspec

from monitoring.certainty import Doubt

# Why a value could not be read. These words are labels of findings: keep them few and stable. The
# last ones name a foreign format.
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
    "bad_zlib",
    "bad_java",
    "bad_hash",
    "wrong_type",
    "msgpack",
    "php",
    "kryo",
    "pickle",
    "snappy",
    "lz4",
    "zstd",
]
Encoding = Literal[
    "jwt",
    "json",
    "java",
    "hash",
    "bearer",
    "jwt+gzip",
    "json+gzip",
    "java+gzip",
    "jwt+zlib",
    "json+zlib",
    "java+zlib",
    "unknown",
]
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

CLIENT_CLAIMS = ("azp", "client_id", "clientId", "appid", "cid", "sub", "client")
PERMISSION_CLAIMS = (
    *("permissions", "scope", "scp", "scopes", "roles", "realm_access.roles", "authorities"),
)  # fmt: skip
VERSION_CLAIMS = (
    *("credential_version", "credentialVersion", "secret_version", "secretVersion"),
)  # fmt: skip


@dataclass(frozen=True)
class ClaimNames:
    """Which claims name the client and the permissions, the first before the others. A dot leads
    into a nested object (``realm_access.roles``), unless a claim has the whole name."""

    client: tuple[str, ...] = CLIENT_CLAIMS
    permissions: tuple[str, ...] = PERMISSION_CLAIMS

    @property
    def quick(self) -> str:
        """The claim that names the client where no other of them is there."""
        return "sub" if "sub" in self.client else self.client[0]

    @cached_property
    def unusual(self) -> tuple[str, ...]:
        """Claims that make a token one for the long road, by their first names."""
        known = {self.quick, "permissions", "scope", "credential_version"}
        names = (*self.client, *self.permissions, *VERSION_CLAIMS)
        first = (part for name in names for part in (name, name.partition(".")[0]))
        return tuple(dict.fromkeys(name for name in first if name not in known))


class Unsure(msgspec.Struct, frozen=True, gc=False):
    """What can be read in more than one way in a token. ``owners``: (claim, client) of every claim
    that may name its client, where they differ; the first is ``Decoded.client``. It was issued at
    ``since`` at the earliest and lives until ``until`` at the latest (None: as ``iat`` and ``exp``
    say)."""

    owners: tuple[tuple[str, str], ...] = ()
    since: Optional[float] = None
    until: Optional[float] = None
    doubts: tuple[Doubt, ...] = ()


if TYPE_CHECKING:
    _Text = str
    _Time = Optional[float]
    _Alg = Optional[str]
    _Encoding = Encoding
    _Reason = Optional[Reason]
    _Unsure = Optional[Unsure]
else:
    # What a claim may be to be taken as it is, checked by msgspec while it decodes. The last four
    # are ours and no claims: nothing in a token can set them.
    _Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    _Time = Optional[Annotated[int, msgspec.Meta(ge=1, lt=10**11)]]
    _Alg = None
    _Encoding = Literal["jwt"]
    _Reason = None
    _Unsure = None


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """One cached token, as far as it could be read. None means: the value did not say.

    Times are epoch seconds, those to believe; where they, or whose token it is, can be read
    otherwise, ``unsure`` says how. ``reason`` is None for a token that was read; otherwise it names
    why not, and every other field except ``encoding`` is None. ``alg`` is "none" for an unsigned
    JWT and None where there is no JWT. ``scope`` is OAuth's claim as a JWT has it; elsewhere its
    words are among the ``permissions``.

    The type is also what the claims of a JWT are decoded into directly: one object per token is
    what a million tokens in seconds can afford.
    """

    # In the order in which the services write them: msgspec looks there first.
    client: Optional[_Text] = msgspec.field(default=None, name="sub")
    iss: Optional[_Text] = None
    aud: Union[_Text, tuple[_Text, ...], None] = None
    exp: _Time = None
    iat: _Time = None
    jti: Optional[_Text] = None
    permissions: Optional[tuple[_Text, ...]] = None
    version: Optional[_Text] = msgspec.field(default=None, name="credential_version")
    scope: Union[_Text, tuple[_Text, ...], None] = None
    nbf: _Time = None
    alg: _Alg = msgspec.field(default=None, name="~alg")
    encoding: _Encoding = msgspec.field(default="jwt", name="~encoding")
    reason: _Reason = msgspec.field(default=None, name="~reason")
    unsure: _Unsure = msgspec.field(default=None, name="~unsure")

    @property
    def lives_until(self) -> Optional[float]:
        """The last moment at which somebody may accept it; None: there is no end."""
        return self.exp if self.unsure is None or self.unsure.until is None else self.unsure.until

    @property
    def issued_since(self) -> Optional[float]:
        """When it was issued at the earliest; None: it does not say."""
        return self.iat if self.unsure is None or self.unsure.since is None else self.unsure.since


class Expectation:
    """The claims that a policy calls ordinary, built into a decoder.

    ``kind`` is a subtype of Decoded: a token of it has the issuer, the audience and none but the
    permissions named here, a client, an id, both times, and one of ``algorithms`` (empty: any
    signature). The check of claims costs nothing, for msgspec makes it while it reads. ``plain``
    decodes whatever needs no second look at its client, its permissions or its times; both raise
    ValidationError for what does.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        permissions: tuple[str, ...],
        algorithms: tuple[str, ...],
        names: ClaimNames = ClaimNames(),
    ) -> None:
        self._algorithms = algorithms
        self.names = names
        time_claim = Annotated[int, msgspec.Meta(ge=1, lt=10**11)]
        named = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
        fields: list[Any] = [
            ("client", named, msgspec.field(name="sub")),
            ("iss", Literal[issuer] if issuer else _Text),  # type: ignore[valid-type]
            ("aud", Literal[audience] if audience else _Text),  # type: ignore[valid-type]
            ("exp", time_claim),
            ("iat", time_claim),
            ("jti", named),
            ("permissions", _some_of(permissions), None),
            ("version", Optional[_Text], msgspec.field(default=None, name="credential_version")),
            ("scope", None, None),
            ("nbf", None, None),
            ("alg", None, msgspec.field(default=None, name="~alg")),
            ("encoding", Literal["jwt"], msgspec.field(default="jwt", name="~encoding")),
            ("reason", None, msgspec.field(default=None, name="~reason")),
            ("unsure", None, msgspec.field(default=None, name="~unsure")),
        ]
        self.kind = _kind("ExpectedToken", fields, names)
        self.decode = msgspec.json.Decoder(self.kind).decode
        self.plain = msgspec.json.Decoder(_kind("PlainToken", [], names)).decode

    def meets(self, algorithm: str) -> bool:
        """Whether a token signed so may be of ``kind``; an unsigned one never is."""
        if self._algorithms and algorithm not in self._algorithms:
            return False
        return algorithm.lower() != "none"


def _kind(name: str, fields: list[Any], names: ClaimNames) -> type[Decoded]:
    """A subtype of Decoded with ``fields``, of which no token is that has an unusual claim."""
    named: Any = fields[0][1] if fields else Optional[_Text]
    quick, kind = ("sub", None) if "." in names.quick else (names.quick, named)
    changed: list[Any] = [("client", kind, msgspec.field(default=None, name=quick))]
    for claim in ("permissions", "scope"):
        if claim not in names.permissions:
            changed.append((claim, None, None))
    if fields and kind is not None:
        changed[0] = ("client", kind, msgspec.field(name=quick))
    fields = [each for each in fields if each[0] not in [field for field, *_ in changed]]
    unusual = [
        (f"unusual_{number}", None, msgspec.field(default=None, name=claim))
        for number, claim in enumerate(names.unusual)
    ]
    return msgspec.defstruct(  # type: ignore[return-value]
        name, [*changed, *fields, *unusual], bases=(Decoded,), frozen=True, gc=False, kw_only=True
    )


def _some_of(words: tuple[str, ...]) -> object:
    word = Literal[words] if words else _Text  # type: ignore[valid-type]
    return Optional[tuple[word, ...]]  # type: ignore[valid-type]


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

    ``rotation_state`` is lower case ("dual_active", "old_deprecated", ...) or None. ``unreadable``:
    of what was cached nothing is known but the client that its key names.
    """

    client: Optional[str]
    active: Optional[bool] = None
    version: Optional[str] = None
    rotation_state: Optional[str] = None
    created_at: Optional[float] = None
    updated_at: Optional[float] = None
    expires_at: Optional[float] = None
    unreadable: bool = False


def undecodable(reason: Reason, encoding: Encoding = "unknown") -> Decoded:
    return Decoded(encoding=encoding, reason=reason)
