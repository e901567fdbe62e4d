"""Decision: how many notices a simulated day costs per incident, with and without hysteresis.

    python -m benchmarks.alert_day [--seed 1] [--days 5]

A day has real incidents of known length on five components and forty clients, and beside them the
noise every monitor sees: single failed probes, a component that comes and goes for an hour, a
credential outage that hits thirty clients at once, cycles that could not be judged. Each row of the
table runs the same days through the same state machine with another policy. "Delay" is the time
from an incident's first bad cycle to its first notice, "missed" counts incidents nobody heard of.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from monitoring.alerts import lifecycle as alerts
from monitoring.components import COMPONENTS
from monitoring.config.settings import AlertSettings
from monitoring.model import Alert, AlertKey, Notice, Severity

DAY, CYCLE = 86400.0, 60.0
CLIENTS = tuple(f"client-{n:03}" for n in range(40))
NEVER = 10**9

POLICIES = {
    "every bad cycle (no state)": None,
    "every change (no hysteresis)": AlertSettings(1, 1, group_above=NEVER, flap_changes=NEVER),
    "hysteresis 2 and 2": AlertSettings(2, 2, group_above=NEVER, flap_changes=NEVER),
    "and flapping, groups (shipped)": AlertSettings(),
    "shipped, 3 of 5": AlertSettings(window=(3, 5)),
}


@dataclass(frozen=True)
class Incident:
    """Something that truly was wrong: which alerts, from when to when (seconds of the day)."""

    places: tuple[tuple[str, str], ...]  # (component, client)
    start: float
    end: float
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True)
class Day:
    """`noise`: moments at which one place fails a single probe."""

    incidents: tuple[Incident, ...]
    noise: dict[tuple[str, str], frozenset[int]]
    blind: frozenset[int]


def make_day(dice: random.Random) -> Day:
    """One day: three to six incidents, one of them flapping on some days, one outage of clients."""
    incidents: list[Incident] = []
    for _ in range(dice.randint(2, 4)):
        start = dice.uniform(0, DAY - 7200)
        place = (dice.choice(COMPONENTS), "")
        severity = dice.choice((Severity.WARNING, Severity.CRITICAL))
        incidents.append(Incident((place,), start, start + dice.uniform(240, 7200), severity))
    start = dice.uniform(0, DAY - 7200)
    hit = tuple(("payment-eapi", client) for client in dice.sample(CLIENTS, 30))
    incidents.append(Incident(hit, start, start + 1800, Severity.WARNING))
    noise = {(name, ""): frozenset(dice.sample(range(1440), 8)) for name in COMPONENTS}
    restless = dice.randint(0, 1380)
    flaps = {restless + n for n in range(60) if n % 5 in (0, 1, 2)}
    place = (dice.choice(COMPONENTS), "")
    noise[place] = frozenset(noise[place] | flaps)
    flapping = Incident((place,), restless * CYCLE, restless * CYCLE + 3600)
    blind = frozenset(dice.sample(range(1440), 20))
    return Day((*incidents, flapping), noise, blind)


def conditions(day: Day, cycle: int) -> Iterator[Alert]:
    """Every place's verdict in one cycle."""
    at = cycle * CYCLE
    places = [(name, "") for name in COMPONENTS] + [("payment-eapi", c) for c in CLIENTS]
    for place in places:
        bad = [
            i.severity for i in day.incidents[:-1] if place in i.places and i.start <= at < i.end
        ]
        if cycle in day.noise.get(place, ()):
            bad.append(Severity.CRITICAL)
        severity = max(bad, default=Severity.OK)
        if cycle in day.blind:
            severity = Severity.UNKNOWN
        metric = "failed_logins" if place[1] else "health_status"
        key = AlertKey("bench", "health_check", place[0], metric, place[1])
        yield Alert(key, severity, f"{place} is in trouble")


def run(days: Sequence[Day], rules: AlertSettings | None) -> list[list[Notice]]:
    """The notices of each day."""
    states: dict[str, alerts.AlertState] = {}
    told: list[list[Notice]] = []
    for number, day in enumerate(days):
        told.append([])
        for cycle in range(1440):
            now = number * DAY + cycle * CYCLE
            found = tuple(conditions(day, cycle))
            if rules is None:
                bad = [a for a in found if a.severity > Severity.UNKNOWN]
                told[-1] += [Notice(a, "first", now, now) for a in bad]
                continue
            step = alerts.step(states, found, alerts.Policy(rules), now)
            states = dict(step.states)
            told[-1] += step.notices
    return told


def heard_after(incident: Incident, notices: Sequence[Notice], midnight: float) -> float | None:
    """Seconds until the first notice about any place of the incident; None: there was none."""
    places = {*incident.places, *((name, "*") for name, client in incident.places if client)}
    start, end = midnight + incident.start, midnight + incident.end + 600
    for notice in notices:
        key = notice.alert.key
        told = notice.reason in ("first", "escalated", "flapping")
        if told and (key.component, key.client) in places and start <= notice.at <= end:
            return notice.at - start
    # It began while an alert about the same place was still open: nobody needs another page.
    opened = [
        n for n in notices
        if (n.alert.key.component, n.alert.key.client) in places and n.at < start
    ]  # fmt: skip
    return 0.0 if opened and opened[-1].reason != "resolved" else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=int, default=5)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    days = [make_day(dice) for _ in range(args.days)]
    incidents = sum(len(day.incidents) for day in days)
    print(
        f"{args.days} days, {incidents} incidents, one cycle a minute, 45 alerts, seed {args.seed}"
    )
    head = ("policy", "notices", "pages", "per incident", "missed", "delay (median)")
    print(f"{head[0]:32}" + "".join(f"{name:>15}" for name in head[1:]))
    for name, rules in POLICIES.items():
        told = run(days, rules)
        report(name, days, told, incidents)


def report(name: str, days: Sequence[Day], told: Sequence[Sequence[Notice]], count: int) -> None:
    """One row of the table; a page is a notice that wakes somebody (first, escalated, flapping)."""
    everything = [n for day in told for n in day]
    pages = [n for n in everything if n.reason in ("first", "escalated", "flapping")]
    waits = [
        heard_after(incident, told[number], number * DAY)
        for number, day in enumerate(days)
        for incident in day.incidents
    ]
    known = [wait for wait in waits if wait is not None]
    cells = (
        f"{len(everything)}",
        f"{len(pages)}",
        f"{len(pages) / count:.1f}",
        f"{len(waits) - len(known)}",
        f"{statistics.median(known):.0f} s" if known else "-",
    )
    print(f"{name:32}" + "".join(f"{cell:>15}" for cell in cells))


if __name__ == "__main__":
    main()
