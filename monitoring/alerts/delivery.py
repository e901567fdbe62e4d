"""Keep: which channels hear of an alert, and how notices reach all of them at the same time.

One sending thread per channel; only the calling thread touches the state file. What is not back
when the budget ends counts as failed and goes again in a later cycle. A file lock per channel keeps
processes that share a state file from sending the same rows twice; where it is taken, we wait for
it as long as the budget lasts.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Callable, Optional, Protocol

from monitoring.alerts import advice
from monitoring.alerts.maintenance import matches
from monitoring.alerts.outbox import LONGEST_RETRY_AFTER, Outbox, Pause, backoff
from monitoring.alerts.outbox_merge import Waiting, recipient_of
from monitoring.channels.base import Channel, ChannelContext, Refusal, TransportError
from monitoring.config.settings import NotificationSettings
from monitoring.model import Alert, AlertKey, Notice, Outcome, Severity
from monitoring.output.logs import LOGGER
from monitoring.store.state import State, StateLocked
from monitoring.text import redact, say

# -- which channels hear of an alert.

#: Gets the state of every alert each cycle instead of notices.
MIRROR = "alertmanager"
#: Always notified: the log needs no address.
LOG = "log"


def channels_for(notice: Notice, settings: NotificationSettings) -> tuple[str, ...]:
    """Names of the channels for a firing notice, in order: those of the first route that fits,
    else those of the severity; only channels that are on; the log always. A group goes wherever
    one of its members would have gone alone: a client's own route holds in a crowd too."""
    named = [name for alert in notice.also or (notice.alert,) for name in _named(alert, settings)]
    return (*dict.fromkeys(named), LOG)


def _named(alert: Alert, settings: NotificationSettings) -> Iterator[str]:
    named = _routed(alert, settings)
    if named is None:
        named = settings.by_severity.get(alert.severity.word, ())
    yield from (n for n in named if n in settings.channels and n not in (MIRROR, LOG))


def _routed(alert: Alert, settings: NotificationSettings) -> Optional[tuple[str, ...]]:
    for route in settings.routes:
        if route.severities and alert.severity.word not in route.severities:
            continue
        if matches(alert, route.match):
            return route.channels
    return None


# -- is a channel so broken that people on the others should know?

METRIC = "notification_channel_failing"
#: A hiccup shorter than this is nobody's business: the outbox bridges it.
PATIENCE = 300.0
#: All scripts share the channels; one of them speaks, or each would.
SPEAKER = "health_check"


class Failing(Protocol):
    """What is known of a channel: failures in a row, since when (epoch seconds), why."""

    @property
    def failures(self) -> int: ...

    @property
    def since(self) -> float: ...

    @property
    def why(self) -> str: ...


def failing_channels(
    pauses: Mapping[str, Failing], wanted: Collection[str], outcome: Outcome
) -> Iterator[Alert]:
    """One alert per channel: a warning when it has failed for PATIENCE and something is to go
    through it (`wanted`), else OK: what nobody tries any more would stay broken for ever."""
    if outcome.script != SPEAKER:
        return
    for name, pause in pauses.items():
        lasts = outcome.at - pause.since if pause.failures else 0.0
        bad = lasts >= PATIENCE and name in wanted
        key = AlertKey(outcome.environment, outcome.script, f"notifications-{name}", METRIC)
        lost = f"alerts have not reached {name} for {say(lasts)}: {pause.why}"
        yield Alert(
            key,
            Severity.WARNING if bad else Severity.OK,
            lost if bad else _well(name, pause),
            **advice.for_finding(METRIC, "availability").fields(),
        )


def _well(name: str, pause: Failing) -> str:
    return f"nothing waits for {name} any more" if pause.failures else f"alerts reach {name} again"


# -- notices carried from the outbox to their channels, all channels at the same time.

_REFUSED_WAIT = 300.0  # a notice that was refused for good: the channel may be mended meanwhile
_STRIKES = 3  # so many refusals in a row are the channel's fault, not the notices'
_LOST_AFTER = 120.0  # seconds after which a thread that hangs is no longer waited for
_POLL = 0.1  # seconds between two looks at a lock that another process holds


#: What an attempt may come to: delivered, refused or failed, not back in time, given up after many
#: tries, or left to another process that is sending on this channel.
OUTCOMES = ("sent", "failed", "unfinished", "given_up", "busy")


@dataclass(frozen=True)
class Delivery:
    """What became of one attempt on a channel: `outcome` is one of OUTCOMES."""

    channel: str
    outcome: str
    why: str = ""
    notices: int = 1


@dataclass(frozen=True)
class _Flight:
    channel: str
    rows: tuple[Waiting, ...]
    since: float  # ticks

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who gets it by itself; none: it goes to the channel as a whole."""
        names = (recipient_of(row.channel) for row in self.rows)
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What it carries: the rows of its first target, which are those of every other."""
        return tuple(row.notice for row in self.rows if row.channel == self.rows[0].channel)

    @property
    def count(self) -> int:
        return max(1, len(self.notices))


@dataclass(frozen=True)
class _Landing:
    flight: _Flight
    error: Optional[TransportError]
    refused: Mapping[str, Refusal] = field(default_factory=dict)


class Sender:
    """Delivers for one process. `table`: the channels that are on. `clock` is epoch seconds,
    `ticks` monotonic."""

    def __init__(
        self,
        outbox: Outbox,
        state: State,
        table: Mapping[str, tuple[Channel, ChannelContext]],
        *,
        clock: Callable[[], float],
        ticks: Callable[[], float],
    ) -> None:
        self._outbox, self._state, self._table = outbox, state, dict(table)
        self._clock, self._ticks = clock, ticks
        self._landed: queue.SimpleQueue[_Landing] = queue.SimpleQueue()
        self._flying: dict[str, _Flight] = {}
        self._refusals: dict[str, int] = {}
        self._tried: set[str] = set()  # targets that were refused in this call
        self._done: list[Delivery] = []

    def deliver(
        self, budget: float, jobs: Mapping[str, Callable[[], None]]
    ) -> tuple[Delivery, ...]:
        """Send what is due, at most `budget` seconds long; `jobs` (the Alertmanager mirror) run
        once each beside it."""
        self._done, self._refusals, self._tried = [], {}, set()
        self._forget_lost()
        until = self._ticks() + budget
        for name, job in jobs.items():
            if name not in self._flying:
                self._start(_Flight(name, (), self._ticks()), job)
        with ExitStack() as locks:
            locked_out = [name for name in self._table if not self._open(name, locks)]
            while self._flying or locked_out:
                left = until - self._ticks()
                if left <= 0:
                    break
                self._finish(min(left, _POLL) if locked_out else left)
                locked_out = [name for name in locked_out if not self._open(name, locks)]
        self._done += [Delivery(name, "busy", "another process is sending") for name in locked_out]
        for flight in self._flying.values():
            self._unfinished(flight, hangs=until - flight.since >= budget / 2)
        return tuple(self._done)

    # -- one channel

    def _open(self, name: str, locks: ExitStack) -> bool:
        """Start the channel if it has something to send. False: another process is at it."""
        if name in self._flying or not self._next(name):
            return True
        try:
            locks.enter_context(self._state.lock(f"deliver-{name}", wait=0.0))
        except StateLocked:
            return False
        self._launch(name)
        return True

    def _next(self, name: str) -> tuple[Waiting, ...]:
        """What the channel is to send now, if it may."""
        now = self._clock()
        if self._outbox.paused(name, now):
            return ()
        channel, _ = self._table[name]
        most = 1 if self._outbox.pause(name).single else channel.batch
        return self._outbox.due(name, now, most, without=self._tried)

    def _launch(self, name: str) -> None:
        self._outbox.refresh()  # another process may have sent some while we waited for the lock
        rows = self._next(name)
        if not rows:
            return
        self._outbox.begin(rows)
        channel, kit = self._table[name]
        flight = _Flight(name, rows, self._ticks())
        if flight.recipients:
            kit = replace(kit, config={**kit.config, channel.recipients: flight.recipients})
        self._start(flight, lambda: channel.send(flight.notices, kit))

    def _start(self, flight: _Flight, job: Callable[[], Optional[Mapping[str, Refusal]]]) -> None:
        name = flight.channel
        self._flying[name] = flight

        def work() -> None:
            self._landed.put(_Landing(flight, *_attempt(job)))

        threading.Thread(target=work, name=f"send-{name}", daemon=True).start()

    def _finish(self, wait: float) -> None:
        try:
            landing = self._landed.get(timeout=wait)
        except queue.Empty:
            return
        flight = landing.flight
        if self._flying.get(flight.channel) is flight:
            del self._flying[flight.channel]
        if self._by_recipient(landing):
            self._partly(flight, landing.refused)
        elif landing.error is None:
            self._succeeded(flight)
        else:
            self._failed(flight, landing.error)

    def _forget_lost(self) -> None:
        """Threads of earlier cycles: take what came back, stop waiting for what hangs."""
        while not self._landed.empty():
            self._finish(0.0)
        now = self._ticks()
        for name, flight in list(self._flying.items()):
            if now - flight.since > _LOST_AFTER:
                del self._flying[name]

    # -- what became of it

    def _by_recipient(self, landing: _Landing) -> bool:
        """Whether recipients were refused, rather than the channel as a whole: a server that
        refuses everybody for good has a trouble of its own."""
        flight, error = landing.flight, landing.error
        if not landing.refused or not flight.recipients:
            return False
        channel, kit = self._table[flight.channel]
        everybody = set(flight.recipients) >= set(channel.notified(kit))
        return error is None or not (error.permanent and everybody)

    def _partly(self, flight: _Flight, refused: Mapping[str, Refusal]) -> None:
        now, name = self._clock(), flight.channel
        notified = [row for row in flight.rows if recipient_of(row.channel) not in refused]
        lost_to = [row for row in flight.rows if recipient_of(row.channel) in refused]
        by_target = {row.channel: refused[recipient_of(row.channel)] for row in lost_to}
        again = {name for name, each in by_target.items() if notified and each.crowded}
        pauses = {
            name: Pause(why=each.why) if name in again else self._refused(name, each, now)
            for name, each in by_target.items()
        }
        self._tried |= {*pauses} - again
        if notified:
            self._done.append(Delivery(name, "sent", "", flight.count))
        why = "; ".join(pause.why for pause in pauses.values())
        self._done.append(Delivery(name, "failed", why, flight.count))
        self._given_up(name, why, self._outbox.partly(notified, lost_to, pauses, now))
        self._launch(name)

    def _refused(self, name: str, refusal: Refusal, now: float) -> Pause:
        """The target's pause: the cycle after the first refusal tries again, later ones wait."""
        after = self._noted(name, refusal.why, now)
        wait = 0.0 if after.failures < 2 or refusal.permanent else backoff(after.failures - 1)
        return replace(after, until=now + wait, final=refusal.permanent)

    def _succeeded(self, flight: _Flight) -> None:
        self._done.append(Delivery(flight.channel, "sent", "", flight.count))
        if not flight.rows:
            self._outbox.clear_pause(flight.channel)
        else:
            self._outbox.notified(flight.rows, self._clock())
            self._refusals.pop(flight.channel, None)
            self._launch(flight.channel)

    def _unfinished(self, flight: _Flight, *, hangs: bool) -> None:
        """Under cron nobody will see it land, so a channel that `hangs` counts as failed now, and
        gets a pause as any other; what was only begun late does not."""
        why, now = "no answer within the time for sending", self._clock()
        self._done.append(Delivery(flight.channel, "unfinished", why, flight.count))
        if not hangs:
            return
        if flight.rows:
            lost = self._outbox.failed(flight.rows, why, due=now, unsure=True, now=now)
            self._given_up(flight.channel, why, lost)
        after = self._noted(flight.channel, why, now)
        self._outbox.set_pause(flight.channel, replace(after, until=now + backoff(after.failures)))

    def _failed(self, flight: _Flight, error: TransportError) -> None:
        why = redact(str(error))
        self._done.append(Delivery(flight.channel, "failed", why, flight.count))
        LOGGER.error("notices were not delivered to %s: %s", flight.channel, why)
        now = self._clock()
        if not flight.rows:
            self._outbox.set_pause(flight.channel, self._noted(flight.channel, why, now))
            return
        refused = error.permanent and self._blames_notice(flight)
        pause = self._pause(flight, error, why, now)
        due = now + _REFUSED_WAIT if refused and flight.count == 1 else now
        lost = self._outbox.failed(flight.rows, why, due=due, unsure=error.unsure, now=now)
        self._outbox.set_pause(flight.channel, pause)
        self._given_up(flight.channel, why, lost)
        if pause.until <= now:
            self._launch(flight.channel)

    def _given_up(self, channel: str, why: str, lost: Sequence[Waiting]) -> None:
        if lost:
            self._done.append(Delivery(channel, "given_up", why, len(lost)))

    def _blames_notice(self, flight: _Flight) -> bool:
        """Whether the refusal may be the notice's own fault; counts it."""
        count = self._refusals.get(flight.channel, 0) + 1
        self._refusals[flight.channel] = count
        return count < _STRIKES

    def _pause(self, flight: _Flight, error: TransportError, why: str, now: float) -> Pause:
        after = self._noted(flight.channel, why, now)
        if error.permanent and self._refusals.get(flight.channel, 0) < _STRIKES:
            return replace(after, single=True)  # at once, one by one: who is it?
        wait = backoff(after.failures)
        if error.retry_after is not None:
            wait = min(error.retry_after, LONGEST_RETRY_AFTER)
        return replace(after, until=now + wait)

    def _noted(self, name: str, why: str, now: float) -> Pause:
        """The channel's record with one failure more, and no pause."""
        before = self._outbox.pause(name)
        since = min(before.since or now, now)
        return replace(before, failures=before.failures + 1, since=since, why=why, until=now)


def _attempt(
    job: Callable[[], Optional[Mapping[str, Refusal]]],
) -> tuple[Optional[TransportError], Mapping[str, Refusal]]:
    """Why it failed (None: it did not), and which recipients were refused."""
    try:
        return None, job() or {}
    except TransportError as exc:
        return exc, exc.refused
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
        # A fault of our own in a channel must not end the thread without a word.
        return TransportError(f"internal: {type(exc).__name__}: {exc}"), {}


def send_now(channel: Channel, kit: ChannelContext, notices: Sequence[Notice]) -> str:
    """Send one after the other without the outbox, in this thread. Returns why it failed; empty:
    it worked."""
    for notice in notices:
        error, refused = _attempt(partial(channel.send, [notice], kit))
        if error or refused:
            said = str(error) if error else "; ".join(each.why for each in refused.values())
            return redact(said)
    return ""
