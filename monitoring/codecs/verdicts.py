"""Decision: cached validation results, and the reason behind each refusal."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Tuple, cast

from monitoring.codecs.facts import ValidationFact, ValidationReason
from monitoring.codecs.records import first

# The services keep prose. The first row with a matching word names the reason.
_WORDS: Tuple[Tuple[Tuple[str, ...], ValidationReason], ...] = (
    (("signature", "tamper"), "invalid_signature"),
    (("revok", "blacklist", "denylist"), "revoked"),
    (("expire", "stale"), "expired"),
    (("permission", "forbidden", "scope", "not allowed"), "forbidden"),
    (("claim", "issuer", "audience", "subject", "not before"), "invalid_claims"),
    (("pars", "malform", "format", "decod", "compact"), "parse_error"),
)
_VALID = ("isValid", "valid", "is_valid")
_MESSAGE = ("errorMessage", "error_message", "error", "message", "reason")


def verdict_of(record: Mapping[str, Any]) -> Optional[ValidationFact]:
    """The verdict in a result object's fields; None when it does not say valid or not."""
    valid = flag(first(record, _VALID))
    if valid is None:
        return None
    renewed = _said(record, "isRenewed", "renewed", "is_renewed")
    return ValidationFact(valid, "ok" if valid else _reason(record), renewed)


def _reason(record: Mapping[str, Any]) -> ValidationReason:
    if _said(record, "isExpired", "expired", "is_expired"):
        return "expired"
    if _said(record, "isForbidden", "forbidden", "is_forbidden"):
        return "forbidden"
    message = str(first(record, _MESSAGE) or "")[:512].lower()
    for words, reason in _WORDS:
        if any(word in message for word in words) or message == reason:
            return reason
    return "unknown"


def _said(record: Mapping[str, Any], *names: str) -> bool:
    return flag(first(record, names)) is True


def flag(value: object) -> Optional[bool]:
    """A yes or no, however written; None when it is neither."""
    if isinstance(value, bytes):
        value = value[:8].decode("ascii", "replace")
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def verdict_of_word(value: bytes) -> Optional[ValidationFact]:
    """Some deployments keep a bare ``true``, ``false`` or a reason's name."""
    word = value.strip(b"\"' \r\n").lower()
    if word in (b"true", b"valid", b"ok", b"1"):
        return ValidationFact(True, "ok", False)
    if word in (b"false", b"invalid", b"0"):
        return ValidationFact(False, "unknown", False)
    named = word.decode("ascii", "replace")
    if any(named == reason for _words, reason in _WORDS):
        return ValidationFact(False, cast(ValidationReason, named), False)
    return None
