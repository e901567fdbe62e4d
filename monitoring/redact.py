"""Safety: what must never be printed, and client ids made fit to print.

One process-wide list of known secrets (settings register theirs when they are loaded) and patterns
for what a stranger may put before us: JWTs, bearer headers, userinfo in URLs, webhook paths.
"""

from __future__ import annotations

import base64
import re
import threading
import urllib.parse

MASK = "[redacted]"
_SHORTEST = 4  # a shorter "secret" would mask ordinary words

_PATTERNS = (
    # A JWT, whole or cut off, also inside a Redis key name; base64url of '{"' is eyJ.
    (re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r'(?i)token\s+token="[^"]*"'), f'Token token="{MASK}"'),
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s:@'\"]*(?::[^/\s@'\"]*)?@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)(https?://hooks\.slack[^/\s]*/)[^\s'\"]+"), rf"\1{MASK}"),
    (re.compile(r"validation:[^\s'\"]{20,}"), f"validation:{MASK}"),
)

_lock = threading.Lock()
_known: tuple[str, ...] = ()


def register(secret: str) -> None:
    """Have `secret` masked everywhere from now on, also base64- and URL-encoded."""
    global _known  # noqa: PLW0603 - one list for the process is the point
    if len(secret) < _SHORTEST:
        return
    forms = {secret, urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret)}
    raw = secret.encode()
    forms |= {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    with _lock:
        # Longest first, so that a secret inside a longer one does not leave the rest behind.
        _known = tuple(sorted(set(_known) | forms, key=lambda s: (-len(s), s)))


def redact(text: str) -> str:
    """`text` with every known secret and everything that looks like one masked."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def safe_id(client_id: str, limit: int = 64) -> str:
    """A client id as it may stand in a table, label or subject: control and invisible characters
    escaped, at most `limit` characters, secrets masked. Ids come from strangers."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in client_id
    )
    shown = redact(shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
