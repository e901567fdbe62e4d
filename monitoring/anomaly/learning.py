"""Decision: what of a judged hour goes into the client's profile, and what does not."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.anomaly.profiles import DAY, WEEK
from monitoring.anomaly.scene import TRUSTED_HOURS, ClientHour, Finding
from monitoring.anomaly.views import (
    REST_HOURS,
    WAKING_HOURS,
    failure_expectation,
    may_be_taken,
)

_NONE: Sequence[str] = ()
_LEAST_EXPOSURE = 0.5  # a habit is not learned from less than half an hour
_MOST_SUSPECTS = 8
_SURGES = ("volume_spike", "off_habit")
_FLAGRANT = 3.0  # a thousand times rarer than the budget asks for
_HABITUAL = 0.5  # of the calls of a busy hour: one of habit
_ACQUAINTED = 48  # hours before which no hour is one of habit
_REST = 10  # hours without a call, after which a call begins a session
_FARTHEST = 2.5  # standard deviations: one wild hour must not teach that hours follow each other


def learn(look: ClientHour, findings: list[Finding]) -> None:
    """Take the hour in. Misuse must not become habit: after the first fortnight the calls of an
    alerting hour are cut to what would not have alerted, and a silence is not learned before its
    second day."""
    profile, hour = look.profile, look.hour
    reasons = [finding.reason for finding in findings] if findings else _NONE
    reported = bool(findings) and profile.seen >= TRUSTED_HOURS
    if not reported:
        _learn_session(look)
    if look.ok or look.failed:
        _learn_calls(look, reasons)
    if hour.exposure >= _LEAST_EXPOSURE:
        _learn_habit(look, reasons)
    profile.seen += 1
    if reported and any(_is_flagrant(finding, profile.limit) for finding in findings):
        profile.misused = hour.number


def _learn_session(look: ClientHour) -> None:
    profile, calls = look.profile, look.ok
    begins = odd = False
    if calls > 0 and profile.seen >= _ACQUAINTED:
        begins = look.hour.number - profile.last_call >= _REST
        odd = begins and _is_odd(look)
    profile.note_session(calls, begins, odd)


def _learn_habit(look: ClientHour, reasons: Sequence[str]) -> None:
    profile, hour = look.profile, look.hour
    of_day, calls = hour.of_day, look.ok / hour.exposure
    mute = profile.silent and profile.low_run > 0 and profile.yesterday[of_day] > 0.0
    if not (mute and profile.seen >= TRUSTED_HOURS):
        habitual = _clip(look, reasons) if reasons or look.monthly or look.leap else look.ok
        offset = (habitual - look.mu) / look.deviation
        offset = offset if offset > -_FARTHEST else -_FARTHEST
        profile.follow(offset if offset < _FARTHEST else _FARTHEST, of_day)
        profile.learn(habitual / hour.exposure, hour.week_hour, hour.day_hour)
    profile.yesterday[of_day] = calls
    profile.note_near(calls)
    if hour.month_days:
        profile.note_month(hour.month_days, of_day, calls)


def _is_flagrant(finding: Finding, limit: float) -> bool:
    """A surge that no wild hour of the client's explains."""
    return finding.reason in _SURGES and finding.score >= limit + _FLAGRANT


def _is_odd(look: ClientHour) -> bool:
    """Whether neither this hour of the week or the day nor the next two are hours of habit."""
    profile, hour = look.profile, look.hour
    weekend = hour.day_hour - hour.of_day
    usual = look.mu
    for ahead in range(3):
        usual = max(usual, profile.week[(hour.week_hour + ahead) % WEEK])
        usual = max(usual, profile.day[weekend + (hour.of_day + ahead) % DAY])
    return usual < _HABITUAL * profile.busy


def _clip(look: ClientHour, reasons: Sequence[str]) -> float:
    if look.leap:
        return min(look.ok, look.profile.most)
    if look.monthly:
        return min(look.ok, look.mu + max(0.0, look.ok - look.monthly))  # no habit of the week's
    if not reasons or look.profile.seen < TRUSTED_HOURS:
        return look.ok
    if "slow_abuse" in reasons or "dormant_woken" in reasons:
        return min(look.ok, look.mu + look.deviation)
    if "volume_spike" in reasons or "off_habit" in reasons:
        return min(look.ok, look.mu)
    return look.ok


def _learn_calls(look: ClientHour, reasons: Sequence[str]) -> None:
    profile, now = look.profile, look.hour.number
    rest = now - profile.last_call
    if rest >= REST_HOURS and profile.seen > TRUSTED_HOURS and profile.returns < WAKING_HOURS - 1:
        profile.returns += 1
    else:
        if rest > profile.longest_pause and profile.seen >= 24:
            profile.longest_pause = rest
        profile.last_call = now
        if profile.returns:
            profile.returns = 0
    profile.active_hours = profile.active_hours * 0.999 + 1.0
    _learn_failures(look, look.withheld or "failure_burst" in reasons)
    if look.sources:
        _learn_sources(look, reasons)


def _learn_failures(look: ClientHour, burst: bool) -> None:
    profile = look.profile
    mean = failure_expectation(look)[0]
    failed = min(look.failed, mean) if burst else look.failed
    profile.calls = profile.calls * 0.999 + look.ok + look.failed
    profile.failures = profile.failures * 0.999 + failed
    profile.failure_residual = profile.failure_residual * 0.998 + (failed - mean) ** 2 - mean
    profile.failure_square = profile.failure_square * 0.998 + mean * mean


def _learn_sources(look: ClientHour, reasons: Sequence[str]) -> None:
    profile, now, sources = look.profile, look.hour.number, look.sources or {}
    hours = profile.active_hours
    profile.distinct += (len(sources) - profile.distinct) / (hours if hours < 200.0 else 200.0)
    if profile.seen >= 72:
        fresh = 0 if reasons else len(look.fresh)
        profile.fresh_hours = profile.fresh_hours * 0.999 + (1.0 if fresh else 0.0)
        profile.fresh_sources = profile.fresh_sources * 0.999 + fresh
    if "failure_burst" in reasons and look.fresh:
        profile.suspects = dict.fromkeys(sorted(look.fresh)[:_MOST_SUSPECTS], now)
    elif profile.suspects and now - max(profile.suspects.values()) > 24:
        profile.suspects = {}
    # An address that came with misuse is no host of the client's for having come.
    # (One to which all calls moved is told once: it may as well have moved.)
    trusted = look.leap or profile.seen >= TRUSTED_HOURS
    if trusted and any(reason != "source_takeover" for reason in reasons):
        profile.meet([source for source in sources if source not in look.fresh], now)
    elif look.fresh and may_be_taken(look):
        pass  # too few calls to say who that is; the next hour will ask again
    else:
        profile.meet(sources, now)
