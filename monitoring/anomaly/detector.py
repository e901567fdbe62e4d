"""Decision: anomalous use of credentials, found hour by hour and told in one sentence each.

`Detector.feed` takes buckets of calls per client in order of time and returns what is anomalous in
every hour that they complete; a finding depends on the buckets up to it and on nothing else. All
times are UTC. Collection that is missing is unknown: it is neither rest nor silence. How it was
measured, and its limits: benchmarks/README.md.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from math import isfinite, log10
from typing import (
    Any,
    Callable,
    NamedTuple,
    Optional,
    Union,
)

from monitoring.anomaly import profiles as anomaly_codec
from monitoring.anomaly.learning import learn
from monitoring.anomaly.platform import Platform, busy_levels, excuses, shared_penalty, survey
from monitoring.anomaly.profiles import SETTLE_HOURS, Profile
from monitoring.anomaly.runs import fall, silence, slow
from monitoring.anomaly.scene import (
    LEARNING_HOURS,
    NO_USAGE,
    ClientHour,
    Finding,
    Hour,
    factor_parts,
    network,
    strangers,
)
from monitoring.anomaly.telling import as_anomaly, is_calm, is_due, is_held
from monitoring.anomaly.types import PLATFORM, REASONS, Anomaly, Bucket, Sensitivity, Usage
from monitoring.anomaly.views import (
    burst_of_strangers,
    dormant,
    failures,
    fanout,
    first_week,
    guessing,
    surge_so_far,
    takeover,
    volume,
)

# -- buckets of any length gathered into whole hours, in order, each counted once.

SECONDS = 3600.0
_SLACK = 0.5  # seconds by which buckets may overlap or fall short
_OPEN_CLIENTS = 20_000


class ClosedHour(NamedTuple):
    """`number` is in hours since the epoch, `exposure` the observed share of it (0..1)."""

    number: int
    exposure: float
    rows: Mapping[str, Usage]


class HourCollector:
    """Adds up buckets until their hour is complete, or a later one begins. A bucket that starts
    before the end of the last one is late or a duplicate: it is ignored and counted."""

    def __init__(self) -> None:
        self.until: Optional[float] = None
        self.ignored = 0
        self._hour: Optional[int] = None
        self._seconds = 0.0
        self._rows: dict[str, Usage] = {}

    def add(self, bucket: Bucket) -> list[ClosedHour]:
        """The hours that this bucket completes, oldest first."""
        if self.until is not None and bucket.at < self.until - _SLACK:
            self.ignored += 1
            return []
        self.until = bucket.at + bucket.seconds
        number = int(bucket.at // SECONDS)
        closed = [self._close()] if self._hour is not None and number > self._hour else []
        if self._hour is None and bucket.seconds >= SECONDS - _SLACK:
            return [*closed, ClosedHour(number, 1.0, bucket.clients)]
        self._gather(number, bucket)
        if self._seconds >= SECONDS - _SLACK:
            closed.append(self._close())
        return closed

    def open_hour(self) -> Optional[ClosedHour]:
        """What was gathered of the hour that is not over; None between hours."""
        if self._hour is None:
            return None
        return ClosedHour(self._hour, min(1.0, self._seconds / SECONDS), self._rows)

    def set_back(self) -> None:
        """Forget the time and the open hour: both came from a clock that was ahead."""
        self.until = self._hour = None
        self._seconds, self._rows = 0.0, {}

    def _gather(self, number: int, bucket: Bucket) -> None:
        self._hour = number
        self._seconds += bucket.seconds
        rows = self._rows
        for name, usage in bucket.clients.items():
            if name in rows:
                rows[name] = _merged(rows[name], usage)
            elif len(rows) < _OPEN_CLIENTS:
                rows[name] = usage

    def _close(self) -> ClosedHour:
        exposure = min(1.0, self._seconds / SECONDS)
        closed = ClosedHour(int(self._hour or 0), exposure, self._rows)
        self._hour, self._seconds, self._rows = None, 0.0, {}
        return closed

    def as_dict(self) -> dict[str, object]:
        """The open hour as plain JSON values."""
        rows = {n: [u.ok, u.failed, u.sources and dict(u.sources)] for n, u in self._rows.items()}
        return {"until": self.until, "hour": self._hour, "seconds": self._seconds, "rows": rows}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `as_dict` gave."""
        until, hour = state["until"], state["hour"]
        rows = {str(name): _usage(*row) for name, row in state["rows"].items()}
        self._seconds = anomaly_codec.finite(state["seconds"])
        self.until = None if until is None else anomaly_codec.finite(until)
        self._hour = None if hour is None else int(anomaly_codec.unsigned(hour))
        self._rows = rows


def _usage(ok: float, failed: float, sources: Optional[Mapping[str, float]]) -> Usage:
    finite = anomaly_codec.finite
    known = None if sources is None else {str(s): finite(n) for s, n in sources.items()}
    return Usage(finite(ok), finite(failed), known)


def _merged(a: Usage, b: Usage) -> Usage:
    """Both parts of an hour; addresses are known only if they are known for both."""
    sources: Optional[dict[str, float]] = None
    if a.sources is not None and b.sources is not None:
        sources = dict(a.sources)
        for source, calls in b.sources.items():
            sources[source] = sources.get(source, 0.0) + calls
    return Usage(a.ok + b.ok, a.failed + b.failed, sources)


__all__ = [
    "PLATFORM_KEY",
    "REASONS",
    "Anomaly",
    "Bucket",
    "Detector",
    "Sensitivity",
    "Usage",
]

JudgedHour = tuple[str, Profile, list[Finding]]

Views = tuple[Callable[[ClientHour], list[Finding]], ...]
VIEWS: Views = (
    volume,
    first_week,
    dormant,
    failures,
    guessing,
    fanout,
    takeover,
    slow,
    silence,
    fall,
)

#: Of an hour in which nothing fails and nobody is new; of one without a call.
VIEWS_OF_CALLS: Views = (volume, first_week, dormant, slow, silence, fall)
VIEWS_AT_REST: Views = (volume, first_week, slow, silence)

PLATFORM_KEY = "*platform*"  # under this name `dump` keeps what clients share
AHEAD = 900.0  # seconds
FORGET_HOURS = 60 * 24  # a client at rest for so long gives its place away when places are short
_MONTH_HOURS = 730.0
FEWEST_CLIENTS = 5  # fewer share the budget of so many: who watches one client can look at more
DEFAULT_SENSITIVITY = Sensitivity()
LOUD, LOUD_CALLS = 5.0, 20.0  # of an hour not over: times the usual hour; calls
_SURGES = ("volume_spike", "off_habit")


class Detector:
    """Watches many clients. Give it buckets of at most an hour in order of time; an hour is judged
    when it is complete, or when a later one begins. `counts` tells what was left out:
    `ignored` buckets (late or duplicate), `outages` (hours in which everybody was silent),
    `unknown` client-hours (counts that are negative or not finite), `left_out` client-hours beyond
    `max_clients`, `shared` surges that other clients had too, `silenced` silences (client-hours)
    that another client's silence already told of, `unreadable` stored profiles.

    For one aggregate series (tokens a minute, active tokens, failure share) use anomaly.series.
    """

    def __init__(
        self,
        sensitivity: Sensitivity = DEFAULT_SENSITIVITY,
        profiles: Optional[Mapping[str, Union[str, bytes]]] = None,
        *,
        max_clients: int = 10_000,
        fewest_clients: int = FEWEST_CLIENTS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._budget, self._fewest = sensitivity.false_alerts_per_client_month, fewest_clients
        self._limit = _limit(self._budget)
        self._sharing = fewest_clients
        self._limits = {name: _limit(n) for name, n in sensitivity.per_client.items()}
        self._max_clients = max_clients
        self._profiles: dict[str, Profile] = {}
        self._platform = Platform()
        self._clock = HourCollector()
        self._changed: set[str] = set()
        for name, text in (profiles or {}).items():
            self._load(name, text)

    def feed(self, bucket: Bucket) -> list[Anomaly]:
        """What is anomalous in the hours that this bucket completes: those found worst first."""
        found: list[Anomaly] = []
        for closed in self._clock.add(bucket):
            found += self._judge(closed)
        found += self._judge_open_hour(bucket)
        self._changed.add(PLATFORM_KEY)
        self.counts["ignored"] = self._clock.ignored
        return found

    def mind_clock(self, now: float) -> None:
        """For live use, before `feed`: if the latest bucket is well ahead of now, a clock was wrong
        when it came. Without this word all buckets up to it would be late, and ignored."""
        if self._clock.until is None or self._clock.until <= now + AHEAD:
            return
        hour = int(now // 3600.0)
        self._clock.set_back()
        self._platform.set_back(hour)
        for profile in self._profiles.values():
            profile.set_back(hour)
        self._changed.update(self._profiles, (PLATFORM_KEY,))

    def dump(self) -> dict[str, str]:
        """Every profile that changed since the last dump, as text, and under PLATFORM_KEY what
        clients share. An empty text means that the profile was forgotten. Give them all back as
        `profiles`, and the detector goes on where it was."""
        texts = {}
        for name in self._changed - {PLATFORM_KEY}:
            profile = self._profiles.get(name)
            texts[name] = "" if profile is None else anomaly_codec.encode(profile)
        if self._changed:
            state = {"v": 1, "platform": self._platform.as_dict(), "clock": self._clock.as_dict()}
            texts[PLATFORM_KEY] = json.dumps(state, separators=(",", ":"))
        self._changed = set()
        return texts

    def _load(self, name: str, text: Union[str, bytes]) -> None:
        if not text:
            return
        try:
            if name == PLATFORM_KEY:
                self._load_platform(text)
            else:
                profile = anomaly_codec.decode(text)
                profile.limit = self._limits.get(name, self._limit)
                self._profiles[name] = profile
        except anomaly_codec.UNREADABLE:
            self.counts["unreadable"] += 1

    def _load_platform(self, text: Union[str, bytes]) -> None:
        state = json.loads(text)
        if state["v"] == 1:
            self._clock.restore(state["clock"])
            self._platform.restore(state["platform"])
        else:
            self.counts["unreadable"] += 1

    def _judge(self, closed: ClosedHour) -> list[Anomaly]:
        number, platform, profiles = closed.number, self._platform, self._profiles
        self._bridge_gap(number)
        unknown = [name for name, usage in closed.rows.items() if not _is_sound(usage)]
        self.counts["unknown"] += len(unknown)
        rows = (
            {n: u for n, u in closed.rows.items() if n not in unknown} if unknown else closed.rows
        )
        self._share_budget()
        hour = Hour(number, closed.exposure, platform.home(len(profiles)))
        hour.pool = platform.leaps()
        self._changed.update(profiles)
        if survey(profiles, rows, hour):
            self.counts["outages"] += 1
            unknown = list(profiles)
        for name in unknown:
            if name in profiles:
                profiles[name].skip(1, hour.of_day)
        return self._report(hour, self._judge_clients(hour, rows, frozenset(unknown)))

    def _share_budget(self) -> None:
        """Clients whose number is small share the budget of `fewest_clients`."""
        sharing = min(max(1, len(self._profiles)), self._fewest)
        if sharing == self._sharing:
            return
        self._sharing = sharing
        self._limit = _limit(self._budget * self._fewest / sharing)
        for name, profile in self._profiles.items():
            profile.limit = self._limits.get(name, self._limit)

    def _judge_open_hour(self, bucket: Bucket) -> Iterator[Anomaly]:
        """Bursts of failures from strangers, and gross surges of one client, are told while their
        hour goes on: minutes count."""
        opened = self._clock.open_hour()
        if opened is None:
            return
        rows, profiles = opened.rows, self._profiles
        names = [n for n, u in bucket.clients.items() if u.failed > 0 and n in profiles]
        failing = sorted(name for name in names if name in rows and _is_sound(rows[name]))
        loud = sorted(self._loud_so_far(bucket, rows))
        if not failing and not loud:
            return
        home = self._platform.home(len(profiles))
        for name in failing:
            look = self._look_so_far(name, rows, Hour(opened.number, 1.0, home))
            yield from self._report_so_far(look, burst_of_strangers(look))
        looks = [self._look_so_far(name, rows, Hour(opened.number, 1.0, home)) for name in loud]
        surges = [(look, found) for look in looks if (found := surge_so_far(look))]
        if len(surges) == 1:  # where several are, it may be the platform: the hour's end will know
            yield from self._report_so_far(*surges[0])
        if failing:
            yield from self._sprays_so_far(Hour(opened.number, 1.0, home), rows)

    def _loud_so_far(self, bucket: Bucket, rows: Mapping[str, Usage]) -> Iterator[str]:
        """Clients of this bucket with far more calls in the hour so far than in an hour of late."""
        for name in bucket.clients:
            profile, usage = self._profiles.get(name), rows.get(name, NO_USAGE)
            if profile is None or usage.ok < LOUD_CALLS or not _is_sound(usage):
                continue
            if usage.ok > LOUD * max(profile.level, profile.near):
                yield name

    def _look_so_far(self, name: str, rows: Mapping[str, Usage], hour: Hour) -> ClientHour:
        profile = self._profiles[name]
        mean = profile.expect(hour.week_hour, hour.day_hour)
        hour.take(factor_parts(rows[name].ok, mean, profile.spread(hour.of_day)))
        return ClientHour(profile, rows[name], hour, name)

    def _report_so_far(self, look: ClientHour, findings: list[Finding]) -> Iterator[Anomaly]:
        profile, name, number = look.profile, look.name, look.hour.number
        for finding in findings:
            if not is_held(profile, finding.reason, number):
                is_due(profile, finding, number)
                self._changed.add(name)
                yield as_anomaly(number, name, finding, hours=profile.seen, limit=profile.limit)

    def _sprays_so_far(self, hour: Hour, rows: Mapping[str, Usage]) -> Iterator[Anomaly]:
        for name, usage in rows.items():
            profile = self._profiles.get(name)
            if usage.failed > 0 and profile and profile.seen >= LEARNING_HOURS:
                for source in strangers(usage.sources, usage.failed, hour.home):
                    hour.strange.setdefault(source, []).append(name)
        for finding in self._platform.judge_sprays(hour):
            age = hour.number - (self._platform.born or 0)
            yield as_anomaly(hour.number, PLATFORM, finding, hours=age)

    def _bridge_gap(self, number: int) -> None:
        platform = self._platform
        if platform.born is None or platform.hour is None:
            platform.born = platform.hour = number - 1
        missing = number - platform.hour - 1
        if missing > 0:
            for profile in self._profiles.values():
                profile.skip(missing, (platform.hour + 1) % 24)
        platform.hour = number

    def _judge_clients(
        self, hour: Hour, rows: Mapping[str, Usage], unknown: frozenset[str]
    ) -> list[JudgedHour]:
        profiles, platform = self._profiles, self._platform
        judged: list[JudgedHour] = []
        networks: dict[str, int] = {}
        known = list(profiles.items())
        for name, profile in known:
            if unknown and name in unknown:
                continue
            look = ClientHour(profile, rows.get(name, NO_USAGE), hour, name)
            findings = _examine(look)
            if findings:
                judged.append((name, profile, findings))
            elif look.sources and profile.seen > SETTLE_HOURS and is_calm(profile, hour.number):
                for place in {network(source) for source in look.sources}:
                    networks[place] = networks.get(place, 0) + 1
        judged += self._judge_newcomers(hour, rows)
        platform.client_hours += len(known)
        platform.learn_networks(networks, hour.number)
        platform.note_leaps(hour)
        return judged

    def _judge_newcomers(self, hour: Hour, rows: Mapping[str, Usage]) -> list[JudgedHour]:
        profiles, platform = self._profiles, self._platform
        names = [n for n, u in rows.items() if n not in profiles and u.ok + u.failed > 0]
        if not names:
            return []
        grown_up = hour.number - (platform.born or 0) > LEARNING_HOURS
        levels = busy_levels(profiles) if grown_up else []
        platform.newcomers += len(names) if grown_up else 0
        judged: list[JudgedHour] = []
        for name in self._admit(names, hour.number):
            profile = profiles[name]
            profile.expect(hour.week_hour, hour.day_hour)
            findings = _examine(ClientHour(profile, rows[name], hour, name))
            if grown_up:
                newcomer = platform.judge_newcomer(
                    rows[name], profile.limit, levels=levels, home=hour.home
                )
                findings = newcomer + findings
            judged.append((name, profile, findings))
        return judged

    def _admit(self, names: list[str], number: int) -> list[str]:
        """Make profiles for new clients while there is room; the rest is counted."""
        profiles = self._profiles
        if len(profiles) + len(names) > self._max_clients:
            stale = [n for n, p in profiles.items() if number - p.last_call > FORGET_HOURS]
            for name in stale:
                del profiles[name]
        free = max(0, self._max_clients - len(profiles))
        admitted = [name for name in names if name != PLATFORM_KEY][:free]
        self.counts["left_out"] += len(names) - len(admitted)
        for name in admitted:
            profile = profiles[name] = Profile(number)
            profile.limit = self._limits.get(name, self._limit)
        self._changed.update(admitted)
        return admitted

    def _report(self, hour: Hour, judged: list[JudgedHour]) -> list[Anomaly]:
        self._platform.note_quiet(hour, len(self._profiles))
        loudest_first = sorted(judged, key=_loudest_first)
        reported = list(self._report_all(hour))
        reported += [anomaly for one in loudest_first for anomaly in self._report_one(hour, one)]
        return sorted(
            reported, key=lambda anomaly: (-anomaly.score, anomaly.client, anomaly.reason)
        )

    def _report_all(self, hour: Hour) -> Iterator[Anomaly]:
        """What many clients have in common is the platform's, or one stranger's."""
        for finding in self._platform.judge_failures(hour, len(self._profiles)):
            age = hour.number - (self._platform.born or 0)
            yield as_anomaly(hour.number, PLATFORM, finding, hours=age)

    def _report_one(self, hour: Hour, judged: JudgedHour) -> Iterator[Anomaly]:
        name, profile, findings = judged
        penalty = shared_penalty(hour, name, len(self._profiles))
        for finding in findings:
            surge = finding.reason in _SURGES and not finding.evidence["joined"]
            surge = surge and finding.score - penalty < profile.limit
            if surge or excuses(hour, finding):
                self.counts["shared"] += 1
            elif finding.reason == "silence" and self._platform.silences_many(profile, hour):
                self.counts["silenced"] += 1
            elif is_due(profile, finding, hour.number):
                if finding.reason == "silence":
                    finding.evidence["others"] = self._platform.report_silence(name, hour)
                age = profile.seen - 1
                yield as_anomaly(hour.number, name, finding, hours=age, limit=profile.limit)


def _loudest_first(judged: JudgedHour) -> tuple[float, str]:
    """Of clients that fall silent together, the one that is missed most speaks for all."""
    name, _, findings = judged
    return -max((finding.expected for finding in findings), default=0.0), name


def _examine(look: ClientHour) -> list[Finding]:
    findings: list[Finding] = []
    for view in _views(look):
        found = view(look)
        if found:
            findings += found
    learn(look, findings)
    return findings


def _views(look: ClientHour) -> Views:
    """The views that this hour can matter to."""
    profile = look.profile
    if look.failed or look.fresh or profile.guessers or profile.suspects or profile.failing:
        return VIEWS
    return VIEWS_OF_CALLS if look.ok else VIEWS_AT_REST


def _limit(budget: float) -> float:
    """The score at which a client stays within its budget of false alerts per month."""
    if not (isfinite(budget) and budget > 0):
        raise ValueError("a budget of false alerts must be a number above 0")
    return log10(_MONTH_HOURS * len(REASONS) / budget)


def _is_sound(usage: Usage) -> bool:
    return 0.0 <= usage.ok < 1e15 and 0.0 <= usage.failed < 1e15
