"""Decision: the statistics that one hour of a client is held against, on the scale -log10 p.

A view is `view(look) -> findings`; the detector's table lists them all. A view looks at the
client's profile and the hour: no clock, no other client save through `Hour`. A cheap screen comes
first in each, so that an ordinary hour costs no special function.
"""

from __future__ import annotations

import math
from math import log10, sqrt

from monitoring.anomaly.profiles import DAY, MAX_SOURCES, SPREAD_PRIOR, WEEK, WEEK_PRIOR, Guesser
from monitoring.anomaly.scene import TRUSTED_HOURS, ClientHour, Finding, network

# -- tail probabilities of counts, on the scale -log10 p.
# One special function carries them all: the regularised incomplete beta function, by Lentz's
# continued fraction (DLMF 8.17.22). The negative binomial with mean m and dispersion d has variance
# m + d*m*m; d = 0 is Poisson.

FLOOR = 300.0  # the largest -log10 p that is ever reported
_LOG10 = math.log(10.0)
_TINY = 1e-300
_POISSON = 1e-6  # below this dispersion the negative binomial is Poisson to any digit that matters


def log_beta_tail(a: float, b: float, x: float) -> float:
    """ln I_x(a, b) for a, b > 0 and 0 <= x <= 1; -inf where it is zero."""
    if x <= 0.0:
        return -math.inf
    if x >= 1.0:
        return 0.0
    front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1.0) / (a + b + 2.0):
        return min(0.0, front - math.log(a) + math.log(_fraction(a, b, x)))
    rest = math.exp(min(0.0, front - math.log(b) + math.log(_fraction(b, a, 1.0 - x))))
    return math.log1p(-rest) if rest < 1.0 else -math.inf


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function; converges in O(sqrt(max(a, b)))."""
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0) or _TINY)
    h = d
    for m in range(1, 2000):
        near = a + 2 * m
        even = m * (b - m) * x / ((near - 1.0) * near)
        d = 1.0 / (1.0 + even * d or _TINY)
        c = 1.0 + even / c or _TINY
        h *= d * c
        odd = -(a + m) * (a + b + m) * x / (near * (near + 1.0))
        d = 1.0 / (1.0 + odd * d or _TINY)
        c = 1.0 + odd / c or _TINY
        change = d * c
        h *= change
        if abs(change - 1.0) < 1e-9:
            break
    return max(h, _TINY)


def upper(count: float, mean: float, dispersion: float) -> float:
    """P(X >= count) for a negative binomial X, as a probability between 0 and 1."""
    if count <= 0.0:
        return 1.0
    if mean <= 0.0:
        return 0.0
    size = 1.0 / max(dispersion, _POISSON)
    return math.exp(log_beta_tail(count, size, mean / (mean + size)))


def lower(count: float, mean: float, dispersion: float) -> float:
    """P(X <= count) for a negative binomial X, as a probability between 0 and 1."""
    if count < 0.0:
        return 0.0
    if mean <= 0.0:
        return 1.0
    size = 1.0 / max(dispersion, _POISSON)
    return math.exp(log_beta_tail(size, count + 1.0, size / (mean + size)))


def zero(mean: float, dispersion: float) -> float:
    """P(X = 0) for a negative binomial X."""
    if dispersion <= _POISSON:
        return math.exp(-mean)
    return math.exp(-math.log1p(mean * dispersion) / dispersion)


def score(probability: float) -> float:
    """-log10 p, between 0 and FLOOR."""
    if probability <= 0.0:
        return FLOOR
    return min(FLOOR, max(0.0, -math.log(probability) / _LOG10))


REST_HOURS = 168  # a week without a call is a rest; ending one is news
WAKING_HOURS = 6  # so many hours with calls, and a rested client is back to its habit
WARY_HOURS = 120  # since a client was misused beyond doubt
CONSPICUOUS = 3.0  # a score that counts when many clients are surprising in one hour
GOT_IN = 4.0  # a success after a burst of failures is this far beyond the limit
SUSPECT_HOURS = 24  # an address that brought failures is watched so long for a success

MOST_FAIL = 0.75  # of its calls: nothing works for the client any more
_EARLY_MARGIN = 1.0  # for what the rest of an hour may still explain
LASTING_HOURS = 2  # so long, before it is told of failures from the client's own hosts
GUESSES, GUESS_HOURS, GUESS_LEAST_HOURS = 8.0, 24, 3  # failures of one strange address in a day
_TAKEN_CALLS = 3
TAKEN = 0.9  # of the calls from strange addresses: somebody else is the client now
_ORDINARY, _COMMON = 1.0, 0.1  # a score that says nothing; its chance
_OTHER_PLACE = 2.0  # the most that leaving all its own addresses at once says
_MOST_GUESSERS, _MOST_AN_HOUR = 8, 2.5  # of an hour: a burst is told as such
_GUESSING_SURE = 1.0  # so many failures of a stranger alone are this far beyond the limit
_HOURS_A_SESSION = 4.0
_RETRIED = 0.25  # of all calls failed: the rest are tries again

_EARLY_OR_LATE = 0.02  # chance that an hour follows the habit of the hour beside it
_AS_YESTERDAY = 0.05  # chance that what was unusual yesterday comes again at the same hour
_CARRIED_LEAST = 0.5  # a low hour before this one lowers what is expected to half at most
_AS_LAST_WEEK = 0.3  # chance that it follows its own hour of the week, whatever its day does
_AS_LAST_MONTHS = 0.5  # chance that a month ends, or begins, as the last two did
_DAY_DOUBT = 0.1  # variance of a day's level at which yesterday and habit weigh the same
_FAR, _FAR_SURE, _FARTHER = 5.0, 4.16, 0.05  # deviations from all hours of the last days; score
_GROSS, _LEAP_CALLS = 5.0, 20.0  # a surge of the first week: times the busiest hour; calls
_FEW, _LEAP_ACTIVE = 5.0, 4.0  # calls that make no ratio; hours with calls, before one is trusted
_MOST_FRESH_SOURCES = 20  # named in the evidence

Findings = list[Finding]
NONE: Findings = []


def volume(look: ClientHour) -> Findings:
    """More calls than habit, neighbouring hours and yesterday let expect: `off_habit` where hardly
    any were due, `volume_spike` where it is also far above the client's average hour, or both."""
    if not look.mature:
        return NONE
    profile = look.profile
    if look.ok < 3 or look.ok <= look.mu * (1.0 if profile.offset >= 0.0 else _CARRIED_LEAST):
        profile.remember_surprise(0.0)  # no forecast is lower than that
        return NONE
    mean, phi = _forecast(look)
    excess = look.ok - mean
    raw, found = 0.0, NONE
    if excess > 0.0 and excess * excess > 1.7 * (mean + phi * mean * mean):
        raw = score(_chance(look, mean, phi))
        if raw > _ORDINARY or profile.limit <= _ORDINARY:
            found = _volume_findings(look, raw, mean)
        found = found or _beyond_all(look, mean)
    trusted = not found or profile.seen < TRUSTED_HOURS
    if raw > CONSPICUOUS and look.hour.number - profile.misused < WARY_HOURS:
        trusted = (
            False  # it was misused of late, and this may be more of it: no wild hour of its own
        )
    profile.remember_surprise(raw if trusted else 0.0)
    return found


def first_week(look: ClientHour) -> Findings:
    """Of a client too young for habits: far more calls than in any hour so far, and farther than
    other clients went beyond themselves in their first week."""
    profile, at, age = look.profile, look.hour, look.profile.seen
    if look.mature:
        if profile.most or profile.crest:
            profile.most = profile.crest = 0.0
        return NONE
    busier = max(1.0, at.bustle / profile.crest) if profile.crest else 1.0
    most = profile.most * busier * at.exposure
    ratio = (look.ok + _FEW) / (most + _FEW)
    found = _leap_findings(look, ratio) if ratio > _GROSS and look.ok >= _LEAP_CALLS else NONE
    if not found and age >= DAY:
        at.leaps.append((ratio, age))
    if not found:
        profile.most, profile.crest = max(profile.most, look.ok), max(profile.crest, at.bustle)
    return found


def _leap_findings(look: ClientHour, ratio: float) -> Findings:
    profile, at = look.profile, look.hour
    seen = profile.day_n[at.of_day] >= 1.0 or profile.day_n[at.day_hour] >= 1.0
    if profile.seen < DAY or not seen or profile.active_hours < _LEAP_ACTIVE:
        return NONE  # its first working day is still to come
    sure = at.pool.score(ratio, profile.seen)
    if sure >= CONSPICUOUS:
        at.conspicuous.append(look.name)
    joined = look.rarity > 0.0 and look.fresh_calls >= 0.5 * (look.ok - profile.most)
    if joined:
        sure += look.rarity
    if sure < profile.limit or (not joined and _tries_again(look)):
        return NONE
    evidence = {**(_source_evidence(look) if joined else {}), "joined": joined}
    evidence.update(usual=profile.level * at.exposure, most=profile.most)
    look.leap = True
    return [Finding("volume_spike", sure, look.ok, look.mu, evidence)]


def surge_so_far(look: ClientHour) -> Findings:
    """Within an hour that is not over: already by far more calls than the whole hour explains.
    They only grow, so this asks nothing that the hour's end will not ask again."""
    if look.profile.seen < TRUSTED_HOURS:
        return NONE
    mean, phi = _forecast(look)
    found = _volume_findings(look, score(_chance(look, mean, phi)), mean)
    return [one for one in found if one.score >= look.profile.limit + _EARLY_MARGIN]


def _forecast(look: ClientHour) -> tuple[float, float]:
    """(mean, dispersion) of this hour's calls, given the habit, yesterday and the hour before.

    What the hour before deviated is carried over as far as this client's hours resemble their
    neighbours, and what is foretold is taken off the dispersion."""
    profile, habit = look.profile, look.mu
    # A quiet platform does not make an ordinary hour suspicious: only a busy one counts here.
    mean = habit * look.level_shift(_DAY_DOUBT) / min(look.factor, 1.0)
    ahead = habit + profile.carry() * profile.offset * look.deviation
    if ahead > habit:
        mean = max(mean, ahead)
    elif habit > 0.0:
        mean *= max(ahead / habit, _CARRIED_LEAST)
    phi = look.phi * profile.unforeseen(look.hour.of_day)
    return mean, phi * max(1.0, habit / mean) ** 2 if mean > 0.0 else phi


def _chance(look: ClientHour, mean: float, phi: float) -> float:
    """P(so many calls or more): a mixture over what this hour may be following."""
    profile, at, calls = look.profile, look.hour, look.ok
    weeks, days = profile.week_n[at.week_hour], profile.day_n[at.day_hour]
    mean += 0.5 / (weeks + days + 1.0)
    # The mean is itself an estimate, from so many weeks and days; its variance joins the hour's.
    doubt = (weeks + WEEK_PRIOR**2 / max(days, 1.0)) / (weeks + WEEK_PRIOR) ** 2
    phi += min((1.0 / mean + phi) * doubt, 2.0)
    chance = upper(calls, mean, phi)
    if chance >= _COMMON:
        return chance  # no sum of more can be rare
    unusual = profile.yesterday[at.of_day] - profile.week[(at.week_hour - DAY) % WEEK]
    others = (
        (_EARLY_OR_LATE, profile.week[(at.week_hour - 1) % WEEK] * look.factor * at.exposure),
        (_EARLY_OR_LATE, profile.week[(at.week_hour + 1) % WEEK] * look.factor * at.exposure),
        (_AS_LAST_WEEK, profile.week[at.week_hour] * look.factor * at.exposure),
        (_AS_YESTERDAY, mean + unusual * at.exposure),
    )
    for weight, other in others:
        if other > mean:
            chance += weight * upper(calls, other, phi)
            if chance >= _COMMON:
                return chance
    if look.monthly > mean:
        chance += _AS_LAST_MONTHS * upper(calls, look.monthly, max(phi, SPREAD_PRIOR))
    session = profile.session()
    if session > 0.0 and profile.busy > mean:
        wide = max(phi, SPREAD_PRIOR)
        chance += min(1.0, _HOURS_A_SESSION * session) * upper(calls, profile.busy, wide)
    return min(1.0, chance)


def _volume_findings(look: ClientHour, raw: float, mean: float) -> Findings:
    profile = look.profile
    sure = profile.calibrate(raw)
    if sure >= CONSPICUOUS:
        look.hour.conspicuous.append(look.name)
    joined = look.rarity > 0.0 and raw > 1.0 and look.fresh_calls >= 0.5 * (look.ok - mean)
    if joined:
        sure += look.rarity
    if sure < profile.limit:
        return NONE
    if not joined and _tries_again(look):
        return NONE
    level = profile.level * look.hour.exposure
    evidence = _source_evidence(look) if joined else {}
    evidence.update(usual=level, joined=joined)
    quiet = look.mu < 0.25 * level + 0.5
    if quiet and profile.seen < TRUSTED_HOURS:
        return NONE  # an hour of the week that was seen once is no habit yet
    reasons = (["off_habit"] if quiet else []) + (
        ["volume_spike"] if not quiet or look.ok > 2.0 * level + 5.0 else []
    )
    due = {"off_habit": look.mu, "volume_spike": mean}
    return [Finding(reason, sure, look.ok, due[reason], evidence) for reason in reasons]


def _beyond_all(look: ClientHour, mean: float) -> Findings:
    """Far more calls than any hour of the last days explains, habit apart: of a client whose hours
    are too wild for a habit this is what is left to say. Among many clients it takes very much."""
    profile = look.profile
    deviation = sqrt(profile.near_square + profile.near)
    far = look.ok - max(profile.near, mean, look.monthly)
    if far < _FAR * deviation or look.ok < _FAR:
        return NONE
    sure = _FAR_SURE + _FARTHER * (far / max(deviation, 1.0) - _FAR)
    if sure < profile.limit or _tries_again(look):
        return NONE
    evidence: dict[str, object] = {"usual": profile.level * look.hour.exposure, "joined": False}
    return [Finding("volume_spike", sure, look.ok, mean, evidence)]


def _tries_again(look: ClientHour) -> bool:
    """From its own hosts, and much of it fails: nobody misuses it."""
    return bool(look.sources) and look.failed >= _RETRIED * (look.ok + look.failed)


def _source_evidence(look: ClientHour) -> dict[str, object]:
    return {
        "new_sources": sorted(look.fresh)[:_MOST_FRESH_SOURCES],
        "new_source_count": len(look.fresh),
        "new_source_calls": look.fresh_calls,
        "forgetful": len(look.profile.known) >= MAX_SOURCES,
    }


def dormant(look: ClientHour) -> Findings:
    """Calls after a rest of a week or more, much longer than any rest before."""
    profile = look.profile
    calls = look.ok + look.failed
    rest = look.hour.number - profile.last_call
    if calls < 2 or rest < REST_HOURS or profile.seen < TRUSTED_HOURS:
        return NONE
    usual = max(float(DAY), float(profile.longest_pause))
    sure = log10(profile.seen) + 2.0 * log10(rest / usual) + look.rarity
    if sure < profile.limit or rest <= usual:
        return NONE
    evidence = {**_source_evidence(look), "rest_hours": rest, "longest_pause_hours": usual}
    return [Finding("dormant_woken", sure, calls, look.mu, evidence)]


def failures(look: ClientHour) -> Findings:
    """More failed calls than the client's failure rate explains; and an address that first failed
    and then got in."""
    profile = look.profile
    if profile.suspects:
        entered = _got_in(look)
        if entered:
            return entered
    _note_strangers(look)
    lasting = look.failed >= MOST_FAIL * (look.ok + look.failed)
    if lasting and look.failed >= 2:
        profile.failing += 1
    elif profile.failing:
        profile.failing = 0
    if look.failed < 5:
        return NONE
    mean, dispersion = failure_expectation(look)
    sure = score(upper(look.failed, mean, dispersion))
    joined = look.rarity > 0.0 and sure > 1.0 and look.fresh_calls >= 0.5 * (look.failed - mean)
    if joined:
        sure += look.rarity
    if sure < profile.limit:
        return NONE
    evidence = {**(_source_evidence(look) if joined else {}), "calls": look.ok + look.failed}
    own = not joined and _from_home(look)
    if own:
        look.hour.failing.append(look.name)
        if profile.failing < LASTING_HOURS and look.mature:
            look.withheld = True
            return NONE  # its own hosts, and some get through: a wrong rollout, not a stranger
    return [Finding("failure_burst", sure, look.failed, mean, {**evidence, "own": own})]


def _from_home(look: ClientHour) -> bool:
    """Whether most calls came from addresses that the client is known by. Where addresses are not
    known, nobody can say so."""
    if not look.sources or look.profile.suspects.keys() & look.sources.keys():
        return False
    return look.fresh_calls < 0.5 * (look.ok + look.failed)


def _note_strangers(look: ClientHour) -> None:
    """Which addresses of networks that are not at home may have failed on this client, how often in
    the last day, and how often they got in since. (Whose calls failed is not known: of an address
    with more calls than failed at all, the rest got in.)"""
    guessers, now = look.profile.guessers, look.hour.number
    if guessers:
        for who in [who for who, seen in guessers.items() if now - seen.first >= GUESS_HOURS]:
            del guessers[who]
    if not look.sources or not look.mature or not (look.failed or guessers):
        return
    for source, calls in look.sources.items():
        if calls > look.failed:
            if source in guessers:
                guessers[source].entered += calls - look.failed
        elif calls > 0 and network(source) not in look.hour.home:
            _note_stranger(look, source, calls)


def _note_stranger(look: ClientHour, source: str, calls: float) -> None:
    """An address that failed, unless it is known by now to get in more often than not."""
    guessers = look.profile.guessers
    guesser = guessers.get(source) or Guesser(look.hour.number, 0.0)
    guesser.failed += min(calls, _MOST_AN_HOUR)
    if len(guessers) < _MOST_GUESSERS:
        guessers[source] = guesser
    if guesser.entered <= guesser.failed:
        look.hour.strange.setdefault(source, []).append(look.name)


def burst_of_strangers(look: ClientHour) -> Findings:
    """Within an hour that is not over: failures from addresses never seen before, already more than
    the whole hour explains by far. They only grow, so this asks nothing that the hour's end will
    not ask again."""
    if look.failed < 5 or not look.mature:
        return NONE
    mean, dispersion = failure_expectation(look)
    sure = score(upper(look.failed, mean, dispersion))
    joined = look.rarity > 0.0 and look.fresh_calls >= 0.5 * (look.failed - mean)
    if not joined or sure + look.rarity < look.profile.limit + _EARLY_MARGIN:
        return NONE
    evidence = {**_source_evidence(look), "calls": look.ok + look.failed, "own": False}
    return [Finding("failure_burst", sure + look.rarity, look.failed, mean, evidence)]


def guessing(look: ClientHour) -> Findings:
    """A strange address that fails on the client hour by hour, too seldom to be a burst."""
    profile, now = look.profile, look.hour.number
    for source, guesser in profile.guessers.items():
        failed = guesser.failed
        if source not in (look.sources or ()) or guesser.entered > failed or failed < GUESSES:
            continue
        if now - guesser.first >= GUESS_LEAST_HOURS:
            evidence: dict[str, object] = {"source": source, "hours": now - guesser.first + 1}
            sure = profile.limit + _GUESSING_SURE
            return [Finding("slow_guessing", sure, failed, 0.0, evidence)]
    return NONE


def takeover(look: ClientHour) -> Findings:
    """Nearly all calls come from addresses never seen before, of networks that are not at home:
    whoever has the secret now uses it in place of its owner, as often as ever."""
    if look.profile.seen < TRUSTED_HOURS or not look.fresh or look.ok < _TAKEN_CALLS:
        return NONE
    strange, calls = _strange_calls(look)
    if not strange:
        return NONE
    # Not one call from where they always came from, however many there are.
    sure = look.rarity + min(_OTHER_PLACE, 0.5 * look.ok)
    if sure < look.profile.limit:
        return NONE
    evidence: dict[str, object] = {
        "sources": strange[:_MOST_FRESH_SOURCES],
        "calls": look.ok + look.failed,
    }
    return [Finding("source_takeover", sure, calls, 0.0, evidence)]


def _strange_calls(look: ClientHour) -> tuple[list[str], float]:
    """The new addresses of networks that are not at home, and their calls; none unless nearly all
    calls of the hour are theirs."""
    sources, home = look.sources or {}, look.hour.home
    strange = sorted(s for s in look.fresh if network(s) not in home)
    calls = sum(sources[source] for source in strange)
    return (strange, calls) if calls >= TAKEN * sum(sources.values()) else ([], 0.0)


def may_be_taken(look: ClientHour) -> bool:
    """Nearly all calls come from strange addresses, but too few to be told; were they more, they
    would be. Of a client that is often seen at new addresses they would not."""
    if look.profile.seen < TRUSTED_HOURS or look.ok >= _TAKEN_CALLS:
        return False
    return look.rarity + _OTHER_PLACE >= look.profile.limit and bool(_strange_calls(look)[0])


def failure_expectation(look: ClientHour) -> tuple[float, float]:
    """(mean, dispersion) of failed calls, for the calls made or due, whichever is more."""
    profile = look.profile
    rate = (profile.failures + 0.2) / (profile.calls + 20.0)
    dispersion = (profile.failure_residual + 7.0) / (profile.failure_square + 10.0)
    calls = look.ok if look.ok > look.mu else look.mu
    return rate * calls + 0.05, dispersion if dispersion > 0.05 else 0.05


def _got_in(look: ClientHour) -> Findings:
    """Calls from a suspect address, more than failed in the whole hour: some succeeded."""
    suspects, now = look.profile.suspects, look.hour.number
    calls = sum(
        count
        for source, count in (look.sources or {}).items()
        if now - suspects.get(source, now) in range(1, SUSPECT_HOURS + 1)
    )
    entered = calls - look.failed
    if entered < 1:
        return NONE
    names = sorted(source for source in look.sources or () if source in suspects)
    evidence = {"suspects": names, "succeeded_at_least": entered, "calls": look.ok + look.failed}
    look.profile.suspects = {}
    sure = look.profile.limit + GOT_IN
    return [Finding("failure_burst", sure, look.failed, failure_expectation(look)[0], evidence)]


def fanout(look: ClientHour) -> Findings:
    """Many addresses never seen before at once, more than the client ever uses side by side."""
    count, profile = len(look.fresh), look.profile
    if count < 3 or not look.mature or len(look.sources or ()) <= profile.distinct + 2.0:
        return NONE
    mean = (profile.fresh_sources + 0.1) / (profile.active_hours + 20.0)
    sure = score(upper(count, mean, 2.0))
    if sure < profile.limit:
        return NONE
    evidence = {**_source_evidence(look), "usual_sources": profile.distinct}
    return [
        Finding("source_fanout", sure, float(len(look.sources or ())), profile.distinct, evidence)
    ]
