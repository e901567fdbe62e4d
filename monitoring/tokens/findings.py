"""Decision: what is wrong with tokens, as findings: a count, whose, a sentence, and the cure.

Where a threshold judges the same thing (tokens without expiry, unreadable values, the cliff), the
finding has the threshold's name and its verdict's severity, so that both make one alert.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from monitoring.components import CACHE, EAPI, SAPI
from monitoring.config.settings import TokenSettings
from monitoring.follow.standing import lineage_findings
from monitoring.model import Finding, Severity, Verdict, worst
from monitoring.reasons import CATEGORIES
from monitoring.redis.profiles import Rule
from monitoring.services.families import CLIENTS, TOKENS, VALIDATIONS, findings as of_counters
from monitoring.text import counted, iso_seconds, printable, safe_id, say
from monitoring.tokens.hygiene import HygieneFinding
from monitoring.tokens.measurements import CLIFF_LEAST, CensusInput, cached_validations, generation
from monitoring.tokens.results import ClientTokens, TokenResult
from monitoring.tokens.services import Validations

# -- do the cache and the services' counters tell the same story?


_DISAGREE = 4.0  # standard deviations
_RATE_FACTOR = 1.5
_SHARE_GAP = 0.1
_MINUTES_LEAST = 5


def disagreements(looked: CensusInput) -> Iterator[Finding]:
    """Where cache and counters say so different things that chance does not explain it."""
    rate = generation(looked)
    minutes = looked.services.seconds / 60
    if rate.cache is not None and rate.services is not None and minutes >= _MINUTES_LEAST:
        cached, counted = rate.cache * minutes, rate.services * minutes
        apart = abs(cached - counted) > _DISAGREE * math.sqrt(cached + counted)
        if apart and max(cached, counted) > _RATE_FACTOR * min(cached, counted):
            yield _rates(rate.cache, rate.services)
    yield from _validations(looked)


def _rates(cache: float, services: float) -> Finding:
    less = "the cache misses tokens" if cache < services else "somebody else mints tokens"
    return Finding(
        "generation_sources_disagree",
        Severity.WARNING,
        f"The tokens in the cache say {cache:.1f} minted per minute, the services' counters say "
        f"{services:.1f}: {less}.",
        EAPI,
        category=CATEGORIES["generation_sources_disagree"],
        evidence={"cache_per_minute": round(cache, 2), "services_per_minute": round(services, 2)},
        meaning="Tokens may live shorter than the window, be evicted, or be minted elsewhere.",
        action="Compare rate_window with the token lifetime, look at evictions, and see that every "
        "EAPI instance is among the metrics URLs.",
    )


def _validations(looked: CensusInput) -> Iterator[Finding]:
    cached, counted = cached_validations(looked), looked.services.recent_validations
    if cached is None or counted is None:
        return
    ours, theirs = cached.success_rate, counted.success_rate
    if ours is None or theirs is None or abs(ours - theirs) < _SHARE_GAP:
        return
    both = (cached.good + counted.good) / (cached.total + counted.total)
    noise = math.sqrt(both * (1 - both) * (1 / cached.total + 1 / counted.total))
    if abs(ours - theirs) > _DISAGREE * noise:
        yield Finding(
            "validation_sources_disagree",
            Severity.WARNING,
            f"Of the verdicts in the cache {ours:.1%} are good, of the validations that the "
            f"services counted {theirs:.1%}.",
            SAPI,
            category=CATEGORIES["validation_sources_disagree"],
            evidence={"cache": _share(cached, ours), "services": _share(counted, theirs)},
            meaning="The cache keeps one verdict per token and permission; a few callers that try "
            "again and again show in the counters only.",
            action="See which client fails most in the services' own metrics.",
        )


def _share(counted: Validations, rate: float) -> Mapping[str, float]:
    return {"validations": round(counted.total), "success_rate": round(rate, 4)}


#: Hygiene findings that a threshold judges, by the threshold's name.
_JUDGED = {"without_ttl": "tokens_without_ttl"}
_SHOWN = 5


def findings(
    looked: CensusInput,
    verdicts: Sequence[Verdict],
    now: float,
    *,
    rules: Sequence[Rule],
    policy: TokenSettings,
) -> tuple[Finding, ...]:
    """Everything of the cycle, in the order in which it is told. What the policy accepts, and
    what is only to be known, has the severity OK."""
    return (
        *_layout(looked, rules),
        *_hygiene(looked, verdicts, policy),
        *_undecodable(looked, verdicts),
        *_cliff(looked, verdicts, now),
        *_clients(looked, now),
        *disagreements(looked),
        *_of_counters(looked),
        *_truncated(looked),
        *lineage_findings(looked.lineage),
    )


def _of_counters(looked: CensusInput) -> Iterator[Finding]:
    """What the services' counters leave open. Whose validations they are is told nowhere."""
    unsure = [each for each in looked.services.unsure if each.figures != (CLIENTS,)]
    yield from of_counters(VALIDATIONS, unsure, SAPI)
    yield from of_counters(TOKENS, unsure, EAPI)


def severity_of(threshold: str, verdicts: Sequence[Verdict]) -> Severity:
    """The worst verdict of a threshold (its key); OK when it judged nothing, or knew nothing."""
    found = (v.severity for v in verdicts if v.threshold.partition(".")[2] == threshold)
    return worst(s for s in found if s is not Severity.UNKNOWN)


def _layout(looked: CensusInput, rules: Sequence[Rule]) -> Iterator[Finding]:
    report, patterns = looked.report, _patterns(rules)
    if report is None or report.truncated:
        return
    tokens = sum(report.matched.get(pattern, 0) for pattern in patterns)
    if tokens:
        return
    tried = f"tried {', '.join(patterns)}"
    if not report.seen:
        sentence = f"The cache holds no key at all ({tried})."
    else:
        kind = "a token's" if report.anything_matched else "of a known kind"
        sentence = f"None of the cache's {report.seen:,} keys is {kind} ({tried})"
        sentence += f"; there are {_prefixes(report.prefixes)}." if report.prefixes else "."
    yield Finding(
        "no_tokens",
        Severity.WARNING,
        sentence,
        CACHE,
        category=CATEGORIES["no_tokens"],
        evidence={"patterns": patterns, "prefixes": dict(report.prefixes), "keys": report.seen},
        meaning="Either no client has logged in for a token's life, or the tokens are elsewhere.",
        action="Compare REDIS_DB and the TOKENS profile or patterns with where EAPI writes.",
    )


def _patterns(rules: Sequence[Rule]) -> list[str]:
    return [rule.pattern for rule in rules if rule.role == "token"]


def _prefixes(prefixes: Mapping[str, int]) -> str:
    ranked = sorted(prefixes.items(), key=lambda item: (-item[1], item[0]))
    return "keys like " + ", ".join(prefix for prefix, _ in ranked[:_SHOWN])


def _is_whole(looked: CensusInput) -> bool:
    """Whether the scan saw all there is; of one that ended early, counts are the least that is."""
    return looked.report is None or not looked.report.truncated


def _hygiene(
    looked: CensusInput, verdicts: Sequence[Verdict], policy: TokenSettings
) -> Iterator[Finding]:
    result = looked.result
    for found in result.hygiene if result else ():
        reason = _JUDGED.get(found.name, found.name)
        severity, why = found.severity, ""
        if found.name in policy.accepted_findings:
            severity, why = Severity.OK, " Accepted by the configuration."
        elif found.name in _JUDGED:
            severity = severity_of(reason, verdicts)
        elif found.name == "expired_served" and result is not None and not result.long_dead:
            severity = Severity.OK
            seen = "" if _is_whole(looked) else " of those seen"
            why = f" None{seen} by more than {say(policy.clock_skew)}, which clocks explain."
        yield Finding(
            reason,
            severity,
            _with_worst(found, _is_whole(looked)) + why,
            CACHE,
            evidence={"count": found.count, "worst": _named(found.worst)},
            action=found.cure,
        )


def _with_worst(found: HygieneFinding, whole: bool) -> str:
    whose = ", ".join(f"{safe_id(client)} ({count:,})" for client, count in found.worst[:3])
    sentence = found.said(whole=whole)
    return f"{sentence} Most: {whose}." if whose else sentence


def _undecodable(looked: CensusInput, verdicts: Sequence[Verdict]) -> Iterator[Finding]:
    result, least = looked.result, "at least " * (not _is_whole(looked))
    if result is None or not result.undecodable:
        return
    count = sum(result.undecodable.values())
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(result.undecodable.items()))
    yield Finding(
        "undecodable_tokens",
        severity_of("undecodable_tokens", verdicts),
        f"Values under token keys that could not be read: {least}{count:,} ({reasons}).",
        CACHE,
        evidence={"count": count, "by_reason": dict(result.undecodable)},
        action="See the reasons; a new service version may have changed how it serialises. Keys "
        "that hold no token, such as a blacklist, go into TOKENS['exclude'].",
    )


def _cliff(looked: CensusInput, verdicts: Sequence[Verdict], now: float) -> Iterator[Finding]:
    severity, result = severity_of("expiry_cliff", verdicts), looked.result
    seen = "" if _is_whole(looked) else " that were seen"
    cliff = result.cliff if result else None
    if cliff is None or severity is Severity.OK or (result and result.active < CLIFF_LEAST):
        return
    left = max(0.0, cliff.at - now)
    whose = ", ".join(f"{safe_id(client)} ({count:,})" for client, count in cliff.worst[:3])
    yield Finding(
        "expiry_cliff",
        severity,
        f"{cliff.count:,} of the live tokens{seen} ({cliff.share:.0%}) die within one minute, at "
        f"{iso_seconds(cliff.at)} (in {say(left)}); most are of {whose}.",
        CACHE,
        category="availability",
        evidence={
            "at": iso_seconds(cliff.at),
            "tokens": cliff.count,
            "share": round(cliff.share, 4),
            "worst": _named(cliff.worst),
        },
        meaning="These clients will all log in at once and may overload EAPI and the vault.",
        action="Have some clients renew early; look for what minted so many tokens at one time.",
    )


def _clients(looked: CensusInput, now: float) -> Iterator[Finding]:
    result = looked.result
    if result is None:
        return
    if result.better_claims:
        yield _better_claim(result)
    if result.unowned is not None and result.unowned.active:
        yield _unowned(result.unowned, _is_whole(looked))
    if result.losing_last_token:
        yield _losing_last_token(result.losing_last_token, now)
    if result.every_call:
        yield _every_call(result)


def _better_claim(result: TokenResult) -> Finding:
    """Said where the clients are found all the same, by a later claim of the list."""
    claims = sorted(result.better_claims, key=lambda claim: (-result.better_claims[claim], claim))
    lost = result.unowned is not None and result.unowned.active
    shown = ", ".join(printable(claim)[:64] for claim in claims[:_SHOWN])
    return Finding(
        "token_client_claim",
        Severity.WARNING if lost else Severity.OK,
        f"Known clients stand in another claim than the first that names one: {shown}.",
        CACHE,
        evidence={"claims": {printable(c)[:64]: result.better_claims[c] for c in claims[:20]}},
        meaning="Tokens may be counted for the wrong client, or for none that is known.",
        action=f"Put {shown} first in TOKENS['client_claims'].",
    )


def _unowned(tokens: ClientTokens, whole: bool) -> Finding:
    until = iso_seconds(tokens.last_expiry) if tokens.last_expiry else "no known time"
    end = "some have no end" if tokens.endless else f"the last dies at {until}"
    return Finding(
        "tokens_of_no_known_client",
        Severity.OK,
        f"{'' if whole else 'At least '}{counted(tokens.active, 'live token')} of no client that "
        f"the vault, the cache or the services know; {end}.",
        CACHE,
        evidence={"active": tokens.active, "without_end": tokens.endless},
        meaning="Each may be any client's, so --can-revoke says no yes while it may be of an old "
        "secret.",
        action="If another claim names their client, put it into TOKENS['client_claims'].",
    )


def _losing_last_token(dark: Sequence[tuple[str, float]], now: float) -> Finding:
    """Said, not warned of: a client that has nothing to do needs no token."""
    soon = ", ".join(f"{safe_id(client)} at {iso_seconds(at)}" for client, at in dark[:3])
    many = f"{len(dark)} clients" if len(dark) != 1 else "A client"
    verb = "lose" if len(dark) != 1 else "loses"
    return Finding(
        "clients_losing_last_token",
        Severity.OK,
        f"{many} {verb} the last token, and nothing shows a renewal in time: {soon}.",
        CACHE,
        category=CATEGORIES["clients_losing_last_token"],
        evidence={
            "count": len(dark),
            "clients": {safe_id(client): iso_seconds(at) for client, at in dark[:50]},
            "next_in_seconds": round(max(0.0, dark[0][1] - now)),
        },
        action="If such a client should be at work, ask its owner to renew before expiry.",
    )


def _every_call(result: TokenResult) -> Finding:
    """Instances of a client that each keep a token of their own look the same in the cache."""
    clients = result.every_call
    holds = {c: result.by_client[c].active for c in clients if c in result.by_client}
    ranked = sorted(clients, key=lambda c: (-holds.get(c, 0), c))
    shown = [f"{safe_id(c)} ({holds[c]:,} live)" if c in holds else safe_id(c) for c in ranked]
    named = ", ".join(shown[:_SHOWN])
    more = f" and {len(clients) - _SHOWN} more" if len(clients) > _SHOWN else ""
    return Finding(
        "renewing_every_call",
        Severity.OK,
        f"New tokens while the last is nearly new, again and again: {named}{more}.",
        CACHE,
        category=CATEGORIES["renewing_every_call"],
        evidence={"count": len(clients), "clients": [safe_id(c) for c in ranked[:50]]},
        meaning="Such a client logs in for each call, or runs as many instances as it has live "
        "tokens, each with its own. Every login costs EAPI and the vault.",
        action="Where it does not run that many: have it keep a token until shortly before its "
        "end.",
    )


def _named(worst_of: Sequence[tuple[str, int]]) -> Mapping[str, int]:
    return {safe_id(client): count for client, count in worst_of}


def _truncated(looked: CensusInput) -> Iterator[Finding]:
    report = looked.report
    if report is None or report.truncated not in ("max_keys", "time"):
        return
    share = "an unknown share" if report.share_seen is None else f"{report.share_seen:.1%}"
    budget = "its limit of keys" if report.truncated == "max_keys" else "its time budget"
    yield Finding(
        "scan_truncated",
        Severity.OK,
        f"The scan ended at {budget} after {report.seen:,} keys, {share} of the cache; metrics are "
        "scaled up to the whole (scan.estimates has bounds), counts in the result are those seen. "
        "What was not looked at is not called good; the next scan goes on there.",
        CACHE,
        category="performance",
        evidence={"keys": report.seen, "expected": report.expected, "share": report.share_seen},
        action="Raise --max-keys or --time-budget (TOKENS in the configuration) to see all.",
    )
