#!/usr/bin/env python3
"""Worlds of the thirteen kinds that `kinds.py` grades, new ones for each seed.

    python benchmarks/worlds.py FOLDER --seed 7
    python benchmarks/kinds.py FOLDER

55 clients over eight weeks (17 where months matter): offices, days with a swing, nightly batches,
heartbeats (or clients that work in sessions), the eight ordinary kinds of misuse, and one kind of
trouble or attack.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import gzip
import json
import math
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, NamedTuple

START = dt.datetime(2026, 1, 5, tzinfo=dt.timezone.utc)  # a Monday
CLIENTS, HOURS, WARM_UP, WEEK = 55, 1344, 336, 168
MONTHS = 17 * WEEK  # hours in which four months end
Label = dict[str, Any]


class Hour(NamedTuple):
    """What one client did in one hour."""

    ok: int
    failed: int
    sources: Counter[str]


NOTHING = Hour(0, 0, collections.Counter())


class World:
    """Clients by name, the labels, and the chance that made them."""

    def __init__(self, seed: int, *, in_sessions: bool = False, length: int = HOURS) -> None:
        self.r, self.length = random.Random(seed), length
        self.labels: list[Label] = []
        self.clients = {
            f"c{i:03d}": ordinary(self.r, i, length, in_sessions=in_sessions)
            for i in range(CLIENTS)
        }

    def label(self, kind: str, start: int, end: int, **more: Any) -> None:
        """Note what was done from hour `start` to before `end`."""
        self.labels.append({"kind": kind, "from": start, "to": end, **more})

    def free(self, name: str, start: int, end: int) -> bool:
        """Whether nothing else is wrong with the client within a day of it."""
        return not any(
            name in (label.get("client"), *label.get("clients", ()))
            and start < label["to"] + 24
            and label["from"] < end + 24
            for label in self.labels
        )

    def stranger(self) -> str:
        """An address of nobody's network."""
        return (
            f"{self.r.choice((198, 203))}.{self.r.randrange(20, 240)}.3.{self.r.randrange(1, 250)}"
        )

    def add(self, name: str, t: int, source: str, *, ok: int = 0, failed: int = 0) -> None:
        """Put calls on top of an hour."""
        old = self.clients[name][t]
        calls = collections.Counter({source: ok + failed})
        self.clients[name][t] = Hour(old.ok + ok, old.failed + failed, old.sources + calls)

    def host(self, name: str) -> str:
        """The address that the client uses most."""
        total: Counter[str] = collections.Counter()
        for hour in self.clients[name]:
            total.update(hour.sources)
        return total.most_common(1)[0][0]

    def lose(self, name: str, t: int, share: float) -> None:
        """A share of the hour's calls fails."""
        old = self.clients[name][t]
        lost = sum(self.r.random() < share for _ in range(old.ok))
        self.clients[name][t] = Hour(old.ok - lost, old.failed + lost, old.sources)


def poisson(r: random.Random, mean: float) -> int:
    """A count with this mean."""
    if mean > 60:
        return max(0, round(r.gauss(mean, math.sqrt(mean))))
    count, product, limit = 0, r.random(), math.exp(-max(mean, 0.0))
    while product > limit:
        count, product = count + 1, product * r.random()
    return count


def rate_of(r: random.Random) -> Callable[[int], float]:
    """The calls an hour of an ordinary client, as a function of the hour."""
    kind, level = r.choice(("office", "swing", "batch", "heart")), math.exp(r.uniform(1.4, 4.6))
    opens, peak, batch = r.choice((6, 8, 9)), r.randrange(24), r.randrange(6)
    closes = opens + r.choice((8, 10))
    return {
        "office": lambda t: level * (opens <= t % 24 < closes and t % WEEK < 120),
        "swing": lambda t: (
            level
            * (1 + 0.6 * math.cos((t % 24 - peak) / 24 * 2 * math.pi))
            * (0.6 if t % WEEK >= 120 else 1)
        ),
        "batch": lambda t: 3 * level * (t % 24 == batch) + 0.02,
        "heart": lambda _t: level,
    }[kind]


def session_rate(r: random.Random, length: int) -> Callable[[int], float]:
    """Sessions of 3 to 13 hours, 10 to 120 hours apart."""
    level, at, on = math.exp(r.uniform(1.6, 4.0)), r.randrange(60), set()
    while at < length:
        lasts = r.randrange(3, 14)
        on.update(range(at, at + lasts))
        at += lasts + r.randrange(10, 121)
    return lambda t: level if t in on else 0.0


def ordinary(
    r: random.Random, number: int, length: int, *, in_sessions: bool = False
) -> list[Hour]:
    """The hours of a client with nothing wrong."""
    rate = session_rate(r, length) if in_sessions else rate_of(r)
    size, fails = r.choice((4, 10, 40)), r.choice((0.0, 0.01, 0.03))
    hosts = [f"10.{number}.{i}.7" for i in range(r.choice((1, 1, 2, 4)))]
    hours = []
    for t in range(length):
        ok = poisson(r, rate(t) * r.gammavariate(size, 1 / size))
        failed = poisson(r, ok * fails)
        hours.append(Hour(ok, failed, collections.Counter(r.choices(hosts, k=ok + failed))))
    return hours


# --- the eight ordinary kinds of misuse


def spike(w: World, name: str, start: int, end: int) -> None:
    usual, source = max(5.0, mean(w, name)), w.r.choice((w.stranger(), w.host(name)))
    for t in range(start, end):
        most = max(usual, w.clients[name][t].ok)
        w.add(name, t, source, ok=int(most * w.r.uniform(2, 6)) + 5)


def slow(w: World, name: str, start: int, end: int) -> None:
    for t in range(start, end):
        w.add(name, t, w.host(name), ok=poisson(w.r, mean(w, name) * w.r.uniform(0.7, 1.1)))


def off_habit(w: World, name: str, start: int, end: int) -> None:
    for t in range(start, end):
        w.add(name, t, w.host(name), ok=w.r.randrange(4, 25))


def woken(w: World, name: str, start: int, end: int) -> None:
    w.clients[name][start - 336 :] = [NOTHING] * (w.length - start + 336)
    w.labels = [e for e in w.labels if e.get("client") != name or e["to"] <= start - 336]
    source = w.stranger()
    for t in range(start, end):
        w.add(name, t, source, ok=w.r.randrange(3, 30))


def burst(w: World, name: str, start: int, end: int) -> None:
    source = w.stranger()
    for t in range(start, end):
        w.add(name, t, source, failed=w.r.choice((157, 43, 40, 30, 27, 15, 12, 8)))


def fanout(w: World, name: str, start: int, end: int) -> None:
    for t in range(start, end):
        for _ in range(w.r.randrange(5, 15)):
            w.add(name, t, f"203.0.113.{w.r.randrange(1, 250)}", ok=1)


def hush(w: World, name: str, start: int, end: int) -> None:
    w.clients[name][start:end] = [NOTHING] * (end - start)


def newcomer(w: World, name: str, start: int, end: int) -> None:
    source = w.stranger()
    for t in range(start, end):
        w.add(name, t, source, ok=w.r.randrange(8, 60))


MISUSE: dict[str, tuple[Callable[[World, str, int, int], None], tuple[int, ...]]] = {
    "volume_spike": (spike, (1, 2, 4)),
    "slow_abuse": (slow, (24, 36)),
    "off_habit": (off_habit, (1, 2, 3)),
    "dormant_woken": (woken, (1, 2)),
    "new_client": (newcomer, (1, 2, 4)),
    "failure_burst": (burst, (1, 2)),
    "source_fanout": (fanout, (2, 4, 6)),
    "silence": (hush, (8, 12)),
}


def mean(w: World, name: str) -> float:
    """Calls an hour."""
    return sum(hour.ok for hour in w.clients[name]) / w.length


def possible(w: World, kind: str, name: str, span: range) -> bool:
    """Whether anybody could tell this misuse from the client's habit."""
    hours, weeks = w.clients[name], (1, 2, 3)
    past = [hours[t - WEEK * week].ok for t in span for week in weeks]
    if kind in ("volume_spike", "slow_abuse"):
        busy = sum(hour.ok > 0 for hour in hours) > w.length / 4
        return mean(w, name) >= 6 and busy if kind == "slow_abuse" else mean(w, name) >= 2
    if kind == "off_habit":
        return max(past) <= 1
    if kind == "silence":
        return mean(w, name) > 3 and min(past) > 0
    return True


def misuse(w: World, count: int = 56) -> None:
    """The ordinary misuse, kind by kind."""
    names = sorted(w.clients)
    for i in range(count):
        kind = list(MISUSE)[i % len(MISUSE)]
        act, lengths = MISUSE[kind]
        for _ in range(80):
            start, length = w.r.randrange(3 * WEEK, w.length - 60), w.r.choice(lengths)
            name = f"n{i:03d}" if kind == "new_client" else w.r.choice(names)
            if kind == "new_client":
                w.clients[name] = [NOTHING] * w.length
            span = range(start, start + length)
            if w.free(name, start, start + length) and possible(w, kind, name, span):
                act(w, name, start, start + length)
                w.label(kind, start, start + length, client=name)
                break


# --- the kinds of trouble and of attack


def deployments(w: World) -> None:
    for week in range(w.length // WEEK):
        for day in (1, 3):
            t = week * WEEK + day * 24 + w.r.choice((9, 10, 14, 15))
            for name in w.clients:
                w.lose(name, t, 0.15)


def retry_storms(w: World) -> None:
    for name in sorted(w.clients):
        hour = w.r.randrange(WEEK)
        for t in range(hour, w.length, WEEK):
            old, more = w.clients[name][t], w.r.uniform(1, 4)
            for source, calls in old.sources.items():
                again = int(calls * more)
                w.add(name, t, source, ok=again - again // 2, failed=again // 2)


def rotation_day(w: World) -> None:
    for name in sorted(w.clients):
        t = w.r.randrange(WARM_UP, w.length - 2)
        w.add(name, t, w.host(name), failed=w.r.randrange(3, 31))
        w.add(name, t + 1, w.host(name), failed=w.r.randrange(4))


def noisy_neighbour(w: World) -> None:
    loud, t = some(w, 6, 1, least=3.0)[0]
    for hour in range(t, t + 6):
        w.add(loud, hour, w.host(loud), ok=int(20 * mean(w, loud)) + 200)
        for name in w.clients:
            if name != loud:
                w.lose(name, hour, 0.35)
    w.label("volume_spike", t, t + 6, client=loud)


def slow_guessing(w: World) -> None:
    for name, t in some(w, 72, 3):
        source = w.stranger()
        for hour in range(t, t + 72):
            w.add(name, hour, source, failed=2)
        w.label("slow_guessing", t, t + 72, client=name)


def takeover(w: World) -> None:
    for name, t in some(w, 12, 3, least=1.0):
        source = w.stranger()
        for hour in range(t, t + 12):
            old = w.clients[name][hour]
            calls = collections.Counter({source: old.ok + old.failed})
            w.clients[name][hour] = Hour(old.ok, old.failed, +calls)
        w.label("takeover", t, t + 12, client=name)


def spray(w: World) -> None:
    t, source = w.r.randrange(3 * WEEK, w.length - 60), w.stranger()
    names = sorted(w.r.sample(sorted(w.clients), 40))
    for name in names:
        w.add(name, t, source, failed=w.r.choice((2, 3)))
    w.label("spray", t, t + 1, clients=names, address=source)


def all_failing(w: World) -> None:
    for name, t in some(w, 6, 3, least=3.0):
        for hour in range(t, t + 6):
            w.lose(name, hour, 0.9)
        w.label("all_failing", t, t + 6, client=name)


def repeated_spike(w: World) -> None:
    for name in w.r.sample([n for n in sorted(w.clients) if mean(w, n) >= 5], 4):
        w.labels = [label for label in w.labels if label.get("client") != name]
        first = WARM_UP + w.r.randrange(72)
        for number, t in enumerate(range(first, w.length - 2, 72), 1):
            for hour in (t, t + 1):
                more = w.r.uniform(2, 5) * max(w.clients[name][hour].ok, mean(w, name))
                w.add(name, hour, w.host(name), ok=int(more))
            w.label("repeated_spike", t, t + 2, client=name, number=number)


def first_week(w: World) -> None:
    """Twelve clients that come later, from the platform's own networks; six of them surge within
    their first week, to ten times their busiest hour or more."""
    for number in range(12):
        name, born = f"y{number:02d}", w.r.randrange(3 * WEEK, w.length - WEEK - 24)
        hours = ordinary(w.r, w.r.randrange(CLIENTS), w.length)
        w.clients[name] = [NOTHING] * born + hours[born:]
        first = next(t for t in range(born, w.length) if hours[t].ok)
        t = first + w.r.randrange(30, WEEK - 2)
        busiest = max(hour.ok for hour in w.clients[name][:t])
        if number % 2 and busiest >= 3:
            source = w.r.choice((w.stranger(), w.host(name)))
            for hour in (t, t + 1):
                w.add(name, hour, source, ok=int(busiest * w.r.uniform(10, 20)))
            w.label("first_week", t, t + 2, client=name)


def month_ends(w: World) -> None:
    """Twelve clients are three times as busy on the last and the first working day of a month, and
    eight have a batch on each first. Nobody can know it from the first two: only these have labels,
    and what is told of later ones is false."""
    days = [(START + dt.timedelta(days=day)).date() for day in range(w.length // 24)]
    ends = [(day, date) for day, date in enumerate(days) if closes(date) or opens(date)]
    names = [n for n in sorted(w.clients) if n.startswith("c") and mean(w, n) >= 2]
    names = w.r.sample(names, 20)
    for name in names[:12]:
        more = w.r.uniform(1.5, 3.0)
        for day, date in ends:
            for t in range(24 * day, 24 * day + 24):
                w.add(name, t, w.host(name), ok=int(more * w.clients[name][t].ok))
            _label_month(w, name, date, range(24 * day, 24 * day + 24))
    for name in names[12:]:
        at, calls = w.r.randrange(24), w.r.randrange(200, 600)
        for day, date in enumerate(days):
            if date.day == 1:
                w.add(name, 24 * day + at, w.host(name), ok=poisson(w.r, calls))
                _label_month(w, name, date, range(24 * day + at, 24 * day + at + 1))


def _label_month(w: World, name: str, date: dt.date, span: range) -> None:
    number = date.month - START.month + (date.day > 20)
    if number <= 2:
        w.label("month_end", span.start, span.stop, client=name, number=number)


def closes(date: dt.date) -> bool:
    """The last working day of a month."""
    following = (date + dt.timedelta(days=n) for n in range(1, 4))
    return date.weekday() < 5 and all(d.month != date.month or d.weekday() >= 5 for d in following)


def opens(date: dt.date) -> bool:
    """The first working day of a month."""
    before = (date - dt.timedelta(days=n) for n in range(1, 4))
    return date.weekday() < 5 and all(d.month != date.month or d.weekday() >= 5 for d in before)


def some(w: World, length: int, count: int, least: float = 0.0) -> list[tuple[str, int]]:
    """Clients with nothing else wrong, each with the hour in which it begins."""
    chosen: list[tuple[str, int]] = []
    names = [n for n in sorted(w.clients) if n.startswith("c") and mean(w, n) >= least]
    while len(chosen) < count:
        name, t = w.r.choice(names), w.r.randrange(3 * WEEK, w.length - length - 24)
        if name not in dict(chosen) and w.free(name, t, t + length) and mean(w, name) > 0:
            chosen.append((name, t))
    return chosen


TROUBLES: dict[str, Callable[[World], None]] = {
    "plain": lambda _world: None,
    "deployments": deployments,
    "retry_storms": retry_storms,
    "rotation_day": rotation_day,
    "noisy_neighbour": noisy_neighbour,
    "intermittent": lambda _world: None,
    "slow_guessing": slow_guessing,
    "takeover": takeover,
    "spray": spray,
    "all_failing": all_failing,
    "repeated_spike": repeated_spike,
    "first_week": first_week,
    "month_ends": month_ends,
}


def build(kind: str, seed: int) -> World:
    """The world of this kind; the same for the same seed."""
    world = World(
        seed * 1000 + list(TROUBLES).index(kind),
        in_sessions=kind == "intermittent",
        length=MONTHS if kind == "month_ends" else HOURS,
    )
    if kind in ("deployments", "retry_storms", "rotation_day", "month_ends"):
        TROUBLES[kind](world)
        misuse(world)
    else:
        misuse(world)
        TROUBLES[kind](world)
    return world


def moment(hour: int) -> str:
    """As `2026-01-05T00:00:00Z`."""
    return (START + dt.timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(folder: Path, kind: str, seed: int) -> None:
    """The world's lines and labels as files."""
    world = build(kind, seed)
    with gzip.open(folder / f"{kind}.jsonl.gz", "wt") as file:
        for t in range(world.length):
            rows = {
                name: {"ok": h[t].ok, "failed": h[t].failed, "sources": dict(h[t].sources)}
                for name, h in world.clients.items()
                if h[t].ok + h[t].failed
            }
            file.write(json.dumps({"at": moment(t), "seconds": 3600, "clients": rows}) + "\n")
    ordered = sorted(world.labels, key=lambda label: (label["from"], label.get("client", "")))
    lines = [{**o, "from": moment(o["from"]), "to": moment(o["to"])} for o in ordered]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"{kind}.labels.jsonl").write_text(text)


def main() -> int:
    """Write the worlds; exit status 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("kinds", nargs="*", default=list(TROUBLES))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for kind in args.kinds:
        write(args.folder, kind, args.seed)
    rows = "".join(json.dumps({"kind": kind}) + "\n" for kind in args.kinds)
    (args.folder / "kinds.jsonl").write_text(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
