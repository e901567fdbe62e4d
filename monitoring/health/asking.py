"""Acquire: the five components asked at the same time, each within its own time.

A row of `components.ROWS` per component, a probe per kind. A probe turns whatever happens into a
Reading; one that hangs for longer than its time is given up, and harms no other.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Callable, TypeVar

from monitoring.components import COMPONENTS, ROWS
from monitoring.config.settings import Settings
from monitoring.health.login_probe import probe_login
from monitoring.health.probes import probe_cache, probe_further, probe_service, probe_vault
from monitoring.health.probing import ProbeContext
from monitoring.model import Fault, Reading
from monitoring.peers import PeerThreads

Probe = Callable[[ProbeContext], Reading]
T = TypeVar("T")

#: Kind of a component -> its probe, which is given the component's name and what to ask with.
KINDS: Mapping[str, Callable[[str, ProbeContext], Reading]] = {
    "service": probe_service,
    "vault": probe_vault,
    "cache": probe_cache,
    "login": probe_login,
}
PROBES: Mapping[str, Probe] = {name: partial(KINDS[row.kind], name) for name, row in ROWS.items()}
#: What a probe that keeps its deadlines may take beyond them on a busy machine.
_GRACE = 1.0
#: Between two starts: preparing five requests at one instant would be part of what they measure.
_APART = 0.004


def patience(settings: Settings) -> Mapping[str, float]:
    """Seconds after which a probe is given up. Each request keeps its own deadline; this is the
    net below, for probes that make several."""
    five = {
        name: sum(getattr(settings, section).timeout for section in row.sections)
        for name, row in ROWS.items()
    }
    further = {row.name: row.timeout for row in settings.components}
    return {name: seconds + _GRACE for name, seconds in {**five, **further}.items()}


def probes_of(settings: Settings) -> Mapping[str, Probe]:
    """The five, and those that the user added."""
    further = {row.name: partial(probe_further, row) for row in settings.components}
    return {**PROBES, **further}


def _unjudged(reading: Reading) -> Reading:
    return reading


class Team:
    """Asks components in threads."""

    def __init__(self, probes: Mapping[str, Probe] = PROBES) -> None:
        self._probes = probes
        self._threads: PeerThreads[Any] = PeerThreads(len(probes), "probe")

    def ask(
        self,
        live: ProbeContext,
        components: Iterable[str] = COMPONENTS,
        *,
        judge: Callable[[Reading], T] = _unjudged,  # type: ignore[assignment]
    ) -> list[T]:
        """What `judge` makes of the Reading of each component, in the order given; none takes
        longer than its `patience`, all together not longer than `run.looking`. Raises nothing for
        one: a judge that breaks is given a Reading with a fault (internal) instead."""
        at, started = live.clock(), time.monotonic()
        names = list(components)
        allowed = patience(live.settings)
        most = live.settings.run.looking
        found = []
        with _prompt_threads():
            asked = {}
            for name in names:
                asked[name] = self._threads.begin(name, partial(self._judged, name, live, judge))
                time.sleep(_APART)
            for name in names:
                seconds = min(allowed.get(name, most), most)
                got = self._threads.end(name, asked[name], started, seconds)
                if isinstance(got, Fault):
                    ended = got.kind == "timeout" and seconds == most
                    got = judge(Reading(name, at, fault=got, truncated=ended))
                found.append(got)
        return found

    def _judged(self, name: str, live: ProbeContext, judge: Callable[[Reading], T]) -> T:
        return judge(self._probes[name](live))


@contextlib.contextmanager
def _prompt_threads() -> Iterator[None]:
    """Hand the interpreter on every half millisecond: at the usual five, an answer that has come
    waits for its turn behind the other probes, and response times tell of us."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
