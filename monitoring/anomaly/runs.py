"""Decision: the views that add up hours: a slow excess, and a silence.

Both keep a running statistic in the client's profile, and both learn from the client's own past
how far such a run goes when nothing is wrong.
"""

from __future__ import annotations

from math import log, log10

from monitoring.anomaly.profiles import SETTLE_HOURS, WEEK, Profile
from monitoring.anomaly.scene import TRUSTED_HOURS, ClientHour, Finding
from monitoring.anomaly.views import NONE, WAKING_HOURS, Findings, lower, score, zero

_EXTRA = 0.7  # slow abuse adds about this share of the client's level to every hour
_STEP_CAP = 1.0  # no single hour moves the slow sum by more (nats)
_DAY_DOUBT = 0.1
_PEAK_FLOOR, _PEAK_MEAN, _PEAK_WEIGHT = 3.0, 2.5, 4.0  # excursions, before the client's are known
_PEAK_CAP = 60.0
_SLOW_BONUS = 0.7  # an excursion is one event for many hours
_LEAST_EXTRA, _LEAST_RATIO = 0.6, 0.15

_LOW, _LOUD = 0.25, 200.0  # below this share of so many calls or more, an hour is as good as silent
_DUE = 0.4  # hours that expect less than this share of the level say nothing about silence
_AS_LAST_WEEK = 0.5
_LOW_PRIOR, _LOW_WEIGHT = 0.15, 6.0  # chance that one low hour follows another
_DUE_LEAST = 100.0  # due hours, before the share of them that began a silence says much
_RUN_MEMORY = 0.998  # what one due hour leaves of how often silences began and went on
_FALL_FROM, _FALL_TO = 20.0, 0.5  # hours that expect so many calls may fall below this share
_FALL_SPREAD = 0.02  # the least dispersion that a fall is held against
_UNSETTLED = 48  # hours for which a client that was told of may be moving its habits
_LOOKS = 0.5  # a sum that is looked at hour after hour has more chances to go too far
_LEAST_HOURS, _LEAST_DUE, _LEAST_ACTIVE = 3, 2, 24.0


def slow(look: ClientHour) -> Findings:
    """A small excess, hour after hour: the cumulative sum (Page) of the log-likelihood ratio
    between `level * _EXTRA` more calls an hour and the habit, judged against the client's own past
    excursions."""
    profile, mu = look.profile, look.mu
    calls = mu + 3.0 * look.deviation
    calls = min(calls, look.ok)
    if look.monthly:
        calls = min(calls, mu)  # months end like this: no excess
    profile.roll(look.hour.of_day, calls, mu)
    if not look.mature or profile.level <= 0.3:
        return NONE
    if profile.sum_m > 1.0:
        _note_drift(look)
    if calls > mu or profile.cusum > 0.0:
        total = profile.cusum + _step(look, calls)
        profile.cusum = total if total > 0.0 else 0.0
    if profile.cusum > 0.0:
        _follow_excursion(profile, calls, mu)
    elif profile.peak:
        _end_excursion(profile)
    if profile.cusum <= 5.0 or calls <= 0.0:
        return NONE
    return _slow_findings(look)


def _note_drift(look: ClientHour) -> None:
    """Learn how far this client's days differ beyond chance."""
    profile = look.profile
    excess = look.ahead * look.ahead - (1.0 / profile.sum_m + look.phi / 24.0)
    excess = excess if excess > 0.0 else 0.0
    profile.drift = profile.drift * 0.998 + (excess if excess < 1.0 else 1.0)
    profile.drift_n = profile.drift_n * 0.998 + 1.0


def _step(look: ClientHour, calls: float) -> float:
    """The log-likelihood ratio of so many calls; below zero where they are no more than due."""
    size, level = 1.0 / look.phi, look.profile.level * look.hour.exposure
    mean = look.mu * look.level_shift(_DAY_DOUBT) + 0.02 * level
    more = mean + _EXTRA * level
    shrink = (size + more) / (size + mean)
    step = calls * log(more / (mean * shrink)) - size * log(shrink)
    return min(max(step, -_STEP_CAP), _STEP_CAP)


def _follow_excursion(profile: Profile, calls: float, mean: float) -> None:
    profile.peak = max(profile.peak, profile.cusum)
    profile.excursion_x += calls
    profile.excursion_m += mean
    profile.excursion_n += 1.0


def _end_excursion(profile: Profile) -> None:
    if profile.peak > _PEAK_FLOOR:
        profile.peaks = profile.peaks * 0.97 + 1.0
        profile.peaks_sum = profile.peaks_sum * 0.97 + min(profile.peak, _PEAK_CAP) - _PEAK_FLOOR
    profile.peak = profile.excursion_x = profile.excursion_m = profile.excursion_n = 0.0


def _slow_findings(look: ClientHour) -> Findings:
    profile = look.profile
    mean = (profile.peaks_sum + _PEAK_WEIGHT * _PEAK_MEAN) / (profile.peaks + _PEAK_WEIGHT)
    rate = (profile.peaks + 1.0) / (profile.seen + 300.0)
    sure = _SLOW_BONUS - log10(rate) + (profile.cusum - _PEAK_FLOOR) / mean / 2.302585
    extra = profile.excursion_x - profile.excursion_m
    enough = extra > _LEAST_EXTRA * profile.level * profile.excursion_n
    if sure < profile.limit or not enough or look.ahead < 0.0:
        return NONE
    if profile.sum_x <= (1.0 + _LEAST_RATIO) * profile.sum_m:
        return NONE
    evidence: dict[str, object] = {
        "hours": profile.excursion_n,
        "observed": profile.excursion_x,
        "expected": profile.excursion_m,
    }
    profile.cusum = 0.0
    return [Finding("slow_abuse", sure, profile.sum_x, profile.sum_m, evidence)]


def silence(look: ClientHour) -> Findings:
    """No call while calls are due: the product of the chances of each hour, where a silence begins,
    and goes on, as often at least as this client's past shows."""
    profile, calls = look.profile, look.ok + look.failed
    mu, at = look.mu, look.hour
    due = mu > 0.05 and mu > _DUE * profile.level * at.exposure
    due = due and profile.seen >= SETTLE_HOURS and profile.day_n[at.day_hour] >= 1.0
    if due:
        profile.due = profile.due * _RUN_MEMORY + 1.0
        if profile.low_any:
            profile.low_any *= _RUN_MEMORY
            profile.low_after_low *= _RUN_MEMORY
    if calls > 0.0 and (mu < _LOUD or calls > _LOW * mu):
        if profile.low_run or profile.silent or profile.not_reported:
            _wake(profile)
        return NONE
    profile.low_run += 1
    if not due:
        return NONE
    chance = _low_chance(look, calls)
    if profile.low_hours:
        chance = max(chance, _goes_on(profile))
    else:
        begun = profile.low_any - profile.low_after_low
        chance = max(chance, begun / max(profile.due, _DUE_LEAST))
    profile.low_hours += 1
    profile.low_score -= log10(max(chance, 1e-50))
    profile.low_m += look.mu
    profile.low_x += calls
    return _silence_findings(profile) if look.mature else NONE


def fall(look: ClientHour) -> Findings:
    """Calls, but far fewer than every habit lets expect: of this hour and of those beside it, of
    yesterday's and of the platform's. What falls to nothing is for `silence` to tell."""
    profile, at, calls = look.profile, look.hour, look.ok
    if profile.seen < TRUSTED_HOURS or look.mu < _FALL_FROM or not 0.0 < calls < _FALL_TO * look.mu:
        return NONE
    week, scale = profile.week, look.factor * at.exposure
    beside = (week[(at.week_hour + step) % WEEK] * scale for step in (-1, 0, 1))
    least = min(look.mu, *beside, profile.yesterday[at.of_day] * at.exposure)
    if calls >= _FALL_TO * least:
        return NONE
    raw = score(lower(calls, least, max(look.phi, _FALL_SPREAD)))
    sure = profile.calibrate_fall(raw)
    moved = any(at.number - hold[0] < _UNSETTLED for hold in profile.holds.values())
    if sure < profile.limit or profile.silent or moved:
        return NONE
    evidence: dict[str, object] = {"hours": 1, "hours_due": 1}
    return [Finding("silence", sure, calls, look.mu, evidence)]


def _low_chance(look: ClientHour, calls: float) -> float:
    """P(so few calls): the hour may follow its habit or, as well, just its own hour of the week."""
    at, phi = look.hour, look.phi
    means = [look.mu]
    if look.profile.week_n[at.week_hour] >= 2:
        means.append(look.profile.week[at.week_hour] * look.factor * at.exposure)
    if calls <= 0.0:
        chances = [zero(mean, phi) for mean in means]
    else:
        chances = [lower(calls, mean, phi) for mean in means]
    return max(chances[0], _AS_LAST_WEEK * chances[-1])


def _goes_on(profile: Profile) -> float:
    """P(a silent hour is followed by another). Of a client that began to call at an odd hour before
    the hours of this very silence count too: it comes when it likes, and has not yet shown how long
    it stays away."""
    own = profile.low_hours if profile.odd_starts >= 1.0 else 0
    low = profile.low_after_low + own + _LOW_PRIOR * _LOW_WEIGHT
    return low / (profile.low_any + own + _LOW_WEIGHT)


def _silence_findings(profile: Profile) -> Findings:
    reported = profile.silent and not profile.not_reported
    enough = profile.low_score >= profile.limit + _LOOKS
    if reported or not enough or profile.active_hours < _LEAST_ACTIVE:
        return NONE
    if profile.low_run < _LEAST_HOURS or profile.low_hours < _LEAST_DUE:
        return NONE
    if profile.session() > 0.0 and profile.low_run <= profile.longest_pause:
        return NONE  # it comes when it likes, and stayed away as long before
    profile.silent, profile.awake = True, 0
    evidence: dict[str, object] = {"hours": profile.low_run, "hours_due": profile.low_hours}
    return [Finding("silence", profile.low_score, profile.low_x, profile.low_m, evidence)]


def _wake(profile: Profile) -> None:
    """A call ends the run; only several hours with calls end the state of silence."""
    trusted = not (profile.silent and profile.seen > TRUSTED_HOURS)
    if profile.low_hours and trusted:
        profile.low_any += profile.low_hours
        profile.low_after_low += profile.low_hours - 1
    profile.low_run = profile.low_hours = profile.not_reported = 0
    profile.low_score = profile.low_m = profile.low_x = 0.0
    profile.awake += 1
    if profile.awake > WAKING_HOURS:
        profile.silent = False
