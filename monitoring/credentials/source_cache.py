"""Acquire: what the cache knows of credentials: EAPI's cached ones, the older layout, and a census
of live tokens. Read-only; values are decoded at once and the secret's hash never asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from monitoring import redis_client
from monitoring.cache.profiles import INDEX
from monitoring.cache.scan import Budget, Door, ScanReport, census, profile_of
from monitoring.codecs.facts import CredentialFact
from monitoring.codecs.times import epoch_seconds
from monitoring.credentials.facts import CACHE, CachedFacts, LegacyFacts
from monitoring.credentials.source_kit import Answer, Asked, dark
from monitoring.model import Fault, Source
from monitoring.settings import Settings
from monitoring.token_codecs import clean_key
from monitoring.token_stats import CLIENTS_TRACKED, TokenStats
from monitoring.tokens.results import TokenResult

#: Of the cycle's time; the rest is for judging and telling.
SHARE_OF_CYCLE = 0.7
LEGACY_KEYS = 200_000
_ACCESS, _ROTATION = b"credential:access:", b"credential:rotation:"
_FIELDS = ("status", "last_rotation", "failure_reason", "failure_time")


@dataclass(frozen=True)
class CacheSeen:
    """`stats` answers for single clients, `result` for all; `whole` False: not every key was seen,
    so counts are minima. `unreadable`: values under token keys that are no token we can read."""

    stats: TokenStats
    result: TokenResult
    credentials: Mapping[str, CachedFacts] = field(default_factory=dict)
    legacy: Mapping[str, LegacyFacts] = field(default_factory=dict)
    whole: bool = True
    unreadable: int = 0

    def knowing(self, clients: Iterable[str]) -> CacheSeen:
        """The same, with tokens that may be of several clients given to those that there are."""
        self.stats.know(clients)
        return replace(self, result=self.stats.result())


def ask_cache(asked: Asked) -> Answer:
    """One scan of the token and credential keys of every primary."""
    cache: Optional[redis_client.Cache] = None
    try:
        cache = asked.cache()
        return _read(cache, asked)
    except redis_client.ERRORS as error:
        fault = redis_client.translate(error) or Fault("internal", "the cache could not be read")
        return dark(CACHE, fault)
    finally:
        if cache is not None:
            cache.close()


def _read(cache: redis_client.Cache, asked: Asked) -> Answer:
    settings, started = asked.settings, time.monotonic()
    policy = replace(settings.tokens, top_clients=CLIENTS_TRACKED)
    stats = TokenStats(asked.clock(), policy, excluded=settings.canary.clients, reads_names=True)
    clients = cache.scan_clients()
    report = census(
        [(f"node {number}", client) for number, client in enumerate(clients, 1)],
        [r for r in profile_of(policy.profile, policy.patterns, policy.exclude) if r.role != INDEX],
        stats,
        door=Door(redis_client.translate, redis_client.ERRORS),
        budget=_budget(settings),
    )
    result = stats.result()
    facts = [fact for fact in report.counted.credentials if _tells(fact)]
    older = _older(clients, report, facts)
    whole = not report.truncated and not report.faults and not report.unread
    seen = CacheSeen(stats, result, _cached(facts), older, whole, sum(result.undecodable.values()))
    return _answer(report, seen, time.monotonic() - started)


def _budget(settings: Settings) -> Budget:
    most = SHARE_OF_CYCLE * settings.run.cycle_deadline
    return Budget(settings.tokens.max_keys, min(settings.tokens.time_budget or most, most))


def _answer(report: ScanReport, seen: CacheSeen, took: float) -> Answer:
    if report.faults and not report.seen:
        return dark(CACHE, report.faults[0][1])
    if report.faults:
        return dark(CACHE, report.faults[0][1], seen)
    if report.seen and not report.anything_matched:
        tried = ", ".join(sorted(report.matched))
        return dark(CACHE, Fault("config", f"no key fits {tried}: another database or layout?"))
    why = (
        f"the scan ended early ({report.truncated}), counts are minima" if report.truncated else ""
    )
    if seen.unreadable and not why:
        why = f"{seen.unreadable} values under token keys could not be read"
    return Answer(Source(CACHE, True, report.seen, took, why), seen)


def _tells(fact: CredentialFact) -> bool:
    return bool(fact.client) and (fact.active is not None or fact.version is not None)


def _cached(facts: Iterable[CredentialFact]) -> Dict[str, CachedFacts]:
    return {
        fact.client: CachedFacts(
            active=fact.active,
            version=fact.version,
            rotation_state=fact.rotation_state,
            created_at=fact.created_at,
            updated_at=fact.updated_at,
            expires_at=fact.expires_at,
        )
        for fact in facts
        if fact.client
    }


# -- the older layout: credential:access:* and credential:rotation:*


def _older(
    clients: Sequence[Any], report: ScanReport, facts: Sequence[CredentialFact]
) -> Dict[str, LegacyFacts]:
    """Read where keys beside the cached credentials match, so that others pay nothing for it."""
    if report.matched.get("credential:*", 0) <= len(facts):
        return {}
    access: Dict[str, float] = {}
    rotations: Dict[str, Mapping[str, Any]] = {}
    for client in clients:
        named = _older_keys(client)
        for key in named:
            _note_access(key, access)
        rotations.update(_rotations(client, [k for k in named if _name(k).startswith(_ROTATION)]))
    return {
        name: _legacy(rotations.get(name, {}), access.get(name)) for name in {*access, *rotations}
    }


def _name(key: bytes) -> bytes:
    return clean_key(key)


def _older_keys(client: Any) -> List[bytes]:
    found: List[bytes] = []
    for key in client.scan_iter(match="*credential:*", count=1000):
        if _name(key).startswith((_ACCESS, _ROTATION)):
            found.append(key)
        if len(found) >= LEGACY_KEYS:
            break
    return found


def _note_access(key: bytes, access: Dict[str, float]) -> None:
    """`credential:access:{client}:{timestamp}`: the name says all."""
    name = _name(key)
    if not name.startswith(_ACCESS):
        return
    client, _, stamp = name[len(_ACCESS) :].decode("utf-8", "replace").rpartition(":")
    at = epoch_seconds(stamp)
    if client and at is not None:
        access[client] = max(at, access.get(client, at))


def _rotations(client: Any, keys: Sequence[bytes]) -> Dict[str, Mapping[str, Any]]:
    found: Dict[str, Mapping[str, Any]] = {}
    for start in range(0, len(keys), 500):
        some = keys[start : start + 500]
        pipe = client.pipeline(transaction=False)
        for key in some:
            pipe.hmget(key, *_FIELDS)
        for key, values in zip(some, pipe.execute(raise_on_error=False)):
            if isinstance(values, Exception) and not str(values).startswith("WRONGTYPE"):
                raise values
            if isinstance(values, list):  # else a key of another type, so not of this layout
                owner = _name(key)[len(_ROTATION) :].decode("utf-8", "replace")
                found[owner] = dict(zip(_FIELDS, values))
    return found


def _legacy(fields: Mapping[str, Any], access: Optional[float]) -> LegacyFacts:
    return LegacyFacts(
        status=_word(fields.get("status")).lower(),
        last_rotation=_moment(fields.get("last_rotation")),
        failure_reason=_word(fields.get("failure_reason")),
        failure_time=_moment(fields.get("failure_time")),
        last_access=access,
    )


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace")[:200] if isinstance(value, bytes) else ""


def _moment(value: Any) -> Optional[float]:
    return epoch_seconds(_word(value)) if value else None
