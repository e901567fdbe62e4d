"""What the tests of the token script share: results of small censuses, and real caches."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Optional

from monitoring.config import load as configuration
from monitoring.config.settings import Settings, TlsSettings, TokenSettings
from monitoring.http.client import HttpClient
from monitoring.redis.count import Counted, ScanReport, ValidationTotals
from monitoring.redis.profiles import profile_of
from monitoring.store.state import State
from monitoring.tokens.codecs.facts import Decoded
from monitoring.tokens.cycle import TokenUsage
from monitoring.tokens.measurements import CensusInput
from monitoring.tokens.results import TokenResult
from monitoring.tokens.services import ServiceFigures
from monitoring.tokens.stats import TokenStats

NOW = 1795402000
ROOT = Path(__file__).parent.parent
RULES = profile_of("auto")


def token(client: str, number: int, *, left: int = 1800, life: int = 3600, **more: Any) -> Decoded:
    claims = {
        "client": client,
        "jti": f"{client}-{number}",
        "iat": NOW + left - life,
        "exp": NOW + left,
        "iss": "payment-eapi",
        "aud": "payment-sapi",
        "permissions": ("view_status",),
        "alg": "HS256",
    }
    return Decoded(**{**claims, **more})


def census_of(tokens: Sequence[Decoded], policy: Optional[TokenSettings] = None) -> TokenResult:
    stats = TokenStats(NOW, policy or TokenSettings())
    stats.add_page(tokens, "token:*")
    stats.keys_seen(len(tokens))
    lasts = [t.exp - NOW if t.exp is not None and t.exp > NOW else 10 for t in tokens]
    stats.add_ttls(tokens, [int(seconds * 1000) for seconds in lasts])
    return stats.result()


def report_of(
    seen: int = 100,
    *,
    matched: Optional[Mapping[str, int]] = None,
    validations: Optional[ValidationTotals] = None,
    **more: Any,
) -> ScanReport:
    found = {"token:*": seen} if matched is None else dict(matched)
    counted = Counted({}, validations or ValidationTotals(), (), {}, 0)
    values: dict[str, Any] = {
        "seen": seen,
        "expected": seen,
        "share_seen": 1.0,
        "matched": {rule.pattern: found.get(rule.pattern, 0) for rule in RULES},
        "prefixes": {},
        "truncated": "",
        "seconds": 0.5,
        "faults": (),
        "unread": 0,
        "counted": counted,
    }
    return ScanReport(**{**values, **more})


def looked(tokens: Sequence[Decoded], **more: Any) -> CensusInput:
    """A look at a cache that holds these tokens and no more."""
    parts = {"report": report_of(len(tokens)), "result": census_of(tokens), **more}
    return CensusInput(parts.pop("services", ServiceFigures()), **parts)


# -- real parts


def jwt(client: str, jti: str, *, left: float = 1800, life: float = 3600, **claims: Any) -> bytes:
    """A JWT around the real time, its signature nonsense."""
    now = int(time.time())
    content = {
        "sub": client,
        "iss": "payment-eapi",
        "aud": "payment-sapi",
        "jti": jti,
        "iat": now + int(left) - int(life),
        "exp": now + int(left),
        "permissions": ["view_status"],
        **claims,
    }
    return b".".join((_segment({"alg": "HS256"}), _segment(content), b"c2lnbmF0dXJl"))


def _segment(content: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")


def fill(client: Any, count: int, clients: int = 10) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(count):
        name = f"client-{number % clients:03d}"
        left = 600 + number * 7 % 3000
        pipe.set(f"token:{number:06d}", jwt(name, f"j{number}", left=left), ex=left)
    pipe.execute()


def settings(cwd: Path, environ: Mapping[str, str], **redis: Any) -> Settings:
    """Settings of the script for a lone cache: no service has a metrics page."""
    loaded = configuration.load(
        script="token_usage_metrics", root=ROOT, config_file=None, environ=environ, cwd=cwd
    )
    return replace(
        loaded,
        eapi=replace(loaded.eapi, paths={}),
        sapi=replace(loaded.sapi, paths={}),
        redis=replace(loaded.redis, **redis),
    )


def usage(made: Settings, state: State) -> TokenUsage:
    http = HttpClient(tls=TlsSettings(), timeout=5.0, user_agent="tests/1")
    return TokenUsage(made, state, eapi=http, sapi=http)


#: Fields of a result that depend on how it was counted, and not on what is in the cache.
_HOW = {"courses", "duplicates_error", "ttl_asked", "ttl_keys", "ttl_exact"}


def comparable(result: TokenResult) -> dict[str, Any]:
    """What a result says of the cache; in whatever order it was counted."""
    found = {f.name: getattr(result, f.name) for f in fields(result) if f.name not in _HOW}
    renewals = result.renewals
    if renewals is not None:
        found["renewals"] = replace(renewals, remaining=tuple(sorted(renewals.remaining)))
    found["hygiene"] = [(f.name, f.count, sorted(f.worst)) for f in result.hygiene]
    if result.cliff is not None:
        found["cliff"] = replace(result.cliff, worst=tuple(sorted(result.cliff.worst)))
    return found
