"""Decision: what all clients do together: outages, shared surges, networks at home, newcomers.

Nothing here depends on the order or the names of the clients.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from math import fsum, log10, sqrt
from typing import Any, Callable, Optional

from monitoring.anomaly.profiles import Profile, finite
from monitoring.anomaly.scene import (
    LEARNING_HOURS,
    NO_USAGE,
    Finding,
    Hour,
    Leaps,
    factor_parts,
    network,
)
from monitoring.anomaly.types import Usage

MAX_NETWORKS = 1024

_HOME_SHARE = 0.25  # a network is at home if it carries this share of what a client carries
_NETWORK_MEMORY = 0.97  # what a day leaves of a network's weight
_SELDOM_SILENT = 0.1  # chance of an hour without a call, by the client's own spread
_OUTAGE_CLIENTS, _OUTAGE_CALLS, _OUTAGE_SHARE = 3, 20.0, 0.9
_CHANCE_PEERS = 0.003  # conspicuous clients per client and hour that chance alone brings
_PEER_PENALTY = 3.0
_QUIET, _QUIET_HOURS = 2.0, 48  # a silence as unlikely as 1 in 100, and not older than two days
_QUIET_MEMORY = 0.01  # what one hour weighs in the usual number of quiet clients
_SILENCE_SHARE = 0.05  # fewer clients than this share are told one by one
_SILENCE_HOURS = 24  # one telling stands so long for all silences that set in together
_SHARED_CLIENTS, _SHARED_SHARE = 3, 0.04  # so many clients that fail at once are the platform
_SHARED_HOURS = 12  # quiet hours after which shared failures are told anew
_SPRAYED = 5  # clients on which one strange address fails in an hour
_BUSTLE_LEAST, _BUSTLE_MOST, _BUSTLE_PRIOR = 0.5, 4.0, 2.0
_NEWCOMER_HOURS = 2000.0  # one new client in so many client-hours, before any was counted
# Score of a new client from a foreign network; from nobody knows where.
_FOREIGN, _UNKNOWN = 2.0, 1.0
_SHARED_SURE, _SPRAY_SURE = 6.0, 9.0  # scores; neither is a matter of chance


class Platform:
    """The running state that clients share; `as_dict` and `from_dict` carry it over a restart."""

    def __init__(self) -> None:
        self.born: Optional[int] = None
        self.hour: Optional[int] = None
        self.networks: dict[str, float] = {}
        self.client_hours = 0.0
        self.newcomers = 0.0
        self.leap_chances = self.leap_count = self.leap_beyond = 0.0  # as Leaps has them
        self.quiet = 0.0
        self.shared_reported = -_SILENCE_HOURS - 1  # the last hour of failures that clients share
        self.sprays: dict[str, int] = {}  # strange address: the hour in which it was told of
        self.silenced = -_SILENCE_HOURS - 1  # the hour in which one silence last spoke for many

    def as_dict(self) -> dict[str, object]:
        """The state as plain JSON values."""
        return dict(vars(self))

    def restore(self, state: Mapping[str, object]) -> None:
        """Take over what `as_dict` gave; unknown names are ignored, missing ones keep defaults.
        Of damaged values nothing is taken over, and one of UNREADABLE is raised."""
        read = {
            key: _READERS.get(key, int)(state[key])
            for key in vars(self)
            if state.get(key) is not None
        }
        vars(self).update(read)

    def set_back(self, hour: int) -> None:
        """As of a profile."""
        self.born, self.hour = min(self.born or hour, hour), min(self.hour or hour, hour)
        self.silenced, self.shared_reported = (
            min(self.silenced, hour),
            min(self.shared_reported, hour),
        )
        self.sprays = {who: min(at, hour) for who, at in self.sprays.items()}

    def leaps(self) -> Leaps:
        """How clients outdo themselves in their first week."""
        return Leaps(self.leap_chances, self.leap_count, self.leap_beyond)

    def note_leaps(self, hour: Hour) -> None:
        """Take in what clients in their first week did in this hour."""
        leaps = self.leaps().after(hour.leaps)
        self.leap_chances, self.leap_count = leaps.chances, leaps.count
        self.leap_beyond = leaps.beyond

    def note_quiet(self, hour: Hour, clients: int) -> None:
        """Are more clients unexpectedly quiet than chance and this platform's past explain?"""
        number = len(hour.quiet)
        most = 1.0 + self.quiet + 3.0 * sqrt(self.quiet + 1.0)
        hour.hush = number > most and number > _SILENCE_SHARE * clients
        self.quiet += _QUIET_MEMORY * (number - self.quiet)

    def judge_failures(self, hour: Hour, clients: int) -> list[Finding]:
        """Failures that many clients have at the same hour from their own hosts are the platform's;
        those that one strange address has on many clients are one stranger's."""
        found = []
        count = len(hour.failing)
        if count >= max(_SHARED_CLIENTS, _SHARED_SHARE * clients):
            hour.shared = True
            if hour.number - self.shared_reported > _SHARED_HOURS:
                evidence: dict[str, object] = {"clients": count, "of": clients}
                found.append(Finding("shared_failures", _SHARED_SURE, count, 0.0, evidence))
            self.shared_reported = hour.number
        return found + self.judge_sprays(hour)

    def judge_sprays(self, hour: Hour) -> list[Finding]:
        """Strange addresses that fail on many clients, each told once a day."""
        found: list[Finding] = []
        self.sprays = {who: at for who, at in self.sprays.items() if hour.number - at <= 24}
        for source, names in sorted(hour.strange.items()):
            if len(names) >= _SPRAYED and source not in self.sprays:
                self.sprays[source] = hour.number
                evidence: dict[str, object] = {"source": source, "clients": len(names)}
                found.append(Finding("failure_spray", _SPRAY_SURE, len(names), 0.0, evidence))
        return found

    def silences_many(self, profile: Profile, hour: Hour) -> bool:
        """Was this silence told of already, as one of many that set in together? If it outlasts
        the others, it is told then."""
        reported = hour.hush and 0 <= hour.number - self.silenced <= _SILENCE_HOURS
        profile.not_reported = int(reported)
        return reported

    def report_silence(self, name: str, hour: Hour) -> int:
        """A silence is told: of how many other clients does it speak as well?"""
        if not hour.hush:
            return 0
        self.silenced = hour.number
        return len(hour.quiet - {name})

    def home(self, clients: int) -> Mapping[str, float]:
        """The networks that clients of this platform habitually call from."""
        least = _HOME_SHARE * fsum(self.networks.values()) / max(1, clients)
        return {name: weight for name, weight in self.networks.items() if weight >= least}

    def learn_networks(self, seen: Mapping[str, int], hour: int) -> None:
        """Take in how many clients used each network in this hour; forget a little each day."""
        networks = self.networks
        for name, clients in seen.items():
            networks[name] = networks.get(name, 0.0) + clients
        if hour % 24 and len(networks) <= 2 * MAX_NETWORKS:
            return
        least = 0.05
        if len(networks) > MAX_NETWORKS:
            least = max(least, sorted(networks.values())[-MAX_NETWORKS])
        self.networks = {
            name: weight * _NETWORK_MEMORY for name, weight in networks.items() if weight >= least
        }

    def judge_newcomer(
        self, usage: Usage, limit: float, *, levels: list[float], home: Mapping[str, float]
    ) -> list[Finding]:
        """A client that was never seen before. How rare newcomers are, how busy this one is among
        all clients (`levels`, sorted), and whether it comes from a network nobody else uses."""
        rate = self.newcomers / (self.client_hours + _NEWCOMER_HOURS)
        calls = usage.ok + usage.failed
        busier = len(levels) - bisect_left(levels, calls)
        sure = -log10(min(1.0, rate)) - log10((1.0 + busier) / (len(levels) + 1.0))
        foreign = foreign_share(usage, home)
        if foreign is None:
            sure += _UNKNOWN
        elif foreign > 0.5:
            sure += _FOREIGN
        if sure < limit:
            return []
        evidence: dict[str, object] = {
            "foreign_share": foreign,
            "busier_clients": busier,
            "clients": len(levels),
            "sources": sorted(usage.sources or ())[:20],
        }
        return [Finding("new_client", sure, calls, 0.0, evidence)]


def foreign_share(usage: Usage, home: Mapping[str, float]) -> Optional[float]:
    """The share of calls from networks that are not at home; None where addresses are unknown."""
    total = fsum((usage.sources or {}).values())
    if not usage.sources or total <= 0:
        return None
    return fsum(n for source, n in usage.sources.items() if network(source) not in home) / total


def survey(profiles: Mapping[str, Profile], rows: Mapping[str, Usage], hour: Hour) -> bool:
    """Work out every client's expectation and the platform's factor; True if nearly everybody who
    should call is silent, which is an outage of the collector or the platform, not of clients."""
    parts, expected = [], []
    due = silent = 0
    bustle: list[float] = []
    for name, profile in profiles.items():
        mean = profile.expect(hour.week_hour, hour.day_hour) * hour.exposure
        phi = profile.spread(hour.of_day)
        calls = rows.get(name, NO_USAGE).ok
        if profile.level > _BUSTLE_LEAST:
            ratio = calls / profile.level
            bustle.append(ratio if ratio < _BUSTLE_MOST else _BUSTLE_MOST)
        if profile.low_score > _QUIET and profile.low_run < _QUIET_HOURS and calls == 0:
            hour.quiet.add(name)
        part = factor_parts(calls, mean, phi)
        if part is None or profile.silent:
            continue
        parts.append(part)
        # One that comes when it likes is never due: its silence says nothing of the platform.
        if mean >= 1.0 and (1.0 + phi * mean) ** (-1.0 / phi) < _SELDOM_SILENT:
            due += 1
            silent += calls == 0
            expected.append(mean)
    hour.bustle = _mean_bustle(bustle, hour.exposure)
    hour.factor_sum = fsum(part[0] for part in parts)
    hour.factor_weight = fsum(part[1] for part in parts)
    if due < _OUTAGE_CLIENTS or silent < _OUTAGE_SHARE * due:
        return False
    return fsum(expected) >= _OUTAGE_CALLS


def _mean_bustle(ratios: list[float], exposure: float) -> float:
    return (fsum(ratios) / exposure + _BUSTLE_PRIOR) / (len(ratios) + _BUSTLE_PRIOR)


def _finite_by_name(values: Mapping[str, float]) -> dict[str, float]:
    return {str(name): finite(value) for name, value in values.items()}


def _hours_by_name(values: Mapping[str, int]) -> dict[str, int]:
    return {str(name): int(value) for name, value in values.items()}


#: How a stored value is read; the others are hours.
_READERS: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(
        (
            *("client_hours", "newcomers", "quiet"),
            *("leap_chances", "leap_count", "leap_beyond"),
        ),
        finite,
    ),
    "networks": _finite_by_name,
    "sprays": _hours_by_name,
}


def excuses(hour: Hour, finding: Finding) -> bool:
    """Whether a burst of failures is one of many in this hour, which were told as one."""
    return hour.shared and finding.evidence.get("own") is True


def shared_penalty(hour: Hour, name: str, clients: int) -> float:
    """What to take off a surge's score because other clients surged in the same hour."""
    peers = len(hour.conspicuous) - (name in hour.conspicuous)
    return _PEER_PENALTY * max(0.0, peers - _CHANCE_PEERS * clients)


def busy_levels(profiles: Mapping[str, Profile]) -> list[float]:
    """The mean hours of all clients that are known well enough, sorted."""
    return sorted(p.level for p in profiles.values() if p.seen >= LEARNING_HOURS)
