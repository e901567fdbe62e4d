"""Keep: from an Outcome to people: states and notices, decided here, written together, then
delivered, whether or not they could be written.

The composition of the alerting parts: conditions (what), alerts (whether and why now), routing
(whom), outbox (not one lost), delivery (at the same time, within a budget).
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Callable, Optional
from urllib.parse import urlsplit, urlunsplit

from monitoring.alerts import (
    delivery as routing,
    lifecycle as alerts,
    report as alert_report,
    silences,
)
from monitoring.alerts.conditions import UP, conditions
from monitoring.alerts.delivery import OUTCOMES, Delivery, Sender, failing_channels, send_now
from monitoring.alerts.lifecycle import FORGET_AFTER, vanished
from monitoring.alerts.maintenance import why_quiet
from monitoring.alerts.outbox import Outbox, Pause, Shelf, text_of
from monitoring.alerts.outbox_merge import channel_of, target
from monitoring.alerts.state import AlertState, dump_state, load_state
from monitoring.channels import CHANNELS, alertmanager
from monitoring.channels.base import Channel, ChannelContext
from monitoring.config.secret import Secret
from monitoring.config.settings import AlertSettings, Settings, Silence, TlsSettings
from monitoring.http.client import HttpClient
from monitoring.http.reply import HttpFault
from monitoring.model import Alert, AlertKey, AlertRow, Measurement, Notice, Outcome, Severity
from monitoring.store.state import State, StateError, Transaction
from monitoring.text import iso_seconds, say

# -- the proof that the monitor itself lives: a ping at the start and end of each cycle.
# Healthchecks style (healthchecks.io/docs/http_api): the address alone means success, `/start` and
# `/fail` below it the others.

_LOG = logging.getLogger("monitoring.alerts.heartbeat")
_PATHS = {"start": "/start", "success": "", "fail": "/fail"}


def ping(http: HttpClient, url: Secret, stage: str) -> str:
    """Ping for `stage` (start, success or fail). Returns why it failed (also logged, without the
    address, which is a secret); empty: it worked, or there is no address."""
    if not url:
        return ""
    try:
        reply = http.get(address(url.reveal(), stage))
        why = "" if 200 <= reply.status < 300 else f"answered {reply.status}"
    except HttpFault as exc:
        why = exc.fault.message
    except OSError as exc:
        why = f"cannot read the file of HEARTBEAT_URL: {exc.strerror}"
    if why:
        _LOG.warning("the heartbeat %s did not get through: %s", stage, why)
    return why


def address(url: str, stage: str) -> str:
    """The address of a stage; a query stays where it belongs."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + _PATHS[stage]))


# -- how many tokens and clients an outage concerns, as the cache was last counted.
# The token script counts them, mostly in another process, so the figures come from the samples it
# left in the state file. While the cache itself is down nobody can count: the text says when it
# was.

TOKENS = "payment_api_tokens_active"
CLIENTS = "payment_api_client_tokens_active"
REMAINING = "payment_api_token_remaining_seconds"
#: A count older than this says nothing about today.
STALE = 86400.0

_LATEST = """
SELECT series.name, series.labels, samples.at, samples.weighted / samples.seconds
FROM series JOIN samples ON samples.series_id = series.id
WHERE series.name IN (?, ?, ?) AND samples.seconds > 0
  AND samples.at = (SELECT max(at) FROM samples WHERE series_id = series.id AND at <= ?)
"""


@dataclass(frozen=True)
class Count:
    """`clients`: those with a live token, 0 when not known; `more`: there were others, not named.
    `half`: seconds that half of the tokens had left or more, None when not known."""

    at: float
    tokens: int
    clients: int = 0
    more: bool = False
    half: Optional[float] = None

    @property
    def sentence(self) -> str:
        """`At the last count (2026-11-23 02:10 UTC) 1,541 tokens of 30 clients were alive.`"""
        of = (
            f" of {'more than ' if self.more else ''}{self.clients} clients" if self.clients else ""
        )
        half = f", half of them for {say(self.half)} or longer" if self.half else ""
        when = iso_seconds(self.at).replace("T", " ")[:16]
        return f"At the last count ({when} UTC) {self.tokens:,} tokens{of} were alive{half}."


def last_count(state: State, now: float) -> Optional[Count]:
    """What the cache held when it was last looked at; None: not within a day."""
    rows = [
        (str(name), json.loads(labels), float(at), float(value))
        for name, labels, at, value in state.read(_LATEST, (TOKENS, CLIENTS, REMAINING, now))
    ]
    total = next(((at, value) for name, _, at, value in rows if name == TOKENS), None)
    if total is None or now - total[0] > STALE:
        return None
    at, tokens = total
    named = [
        labels.get("client_id", "")
        for name, labels, when, value in rows
        if name == CLIENTS and when == at and value > 0
    ]
    half = [v for name, labels, when, v in rows
            if (name, labels.get("stat"), when) == (REMAINING, "p50", at)]  # fmt: skip
    clients = [client for client in named if client not in ("other", "all", "")]
    return Count(at, round(tokens), len(clients), "other" in named, next(iter(half), None))


def with_reach(alerts: Iterable[Alert], state: State, now: float) -> tuple[Alert, ...]:
    """The same alerts; those of a component in trouble say whom it concerns, if that is known."""
    found = tuple(alerts)
    if not any(_concerned(alert) for alert in found):
        return found
    count = last_count(state, now)
    if count is None or not count.tokens:
        return found
    return tuple(
        replace(alert, meaning=f"{alert.meaning} {count.sentence}") if _concerned(alert) else alert
        for alert in found
    )


def _concerned(alert: Alert) -> bool:
    return alert.key.metric == UP and alert.severity > Severity.UNKNOWN


# -- from an Outcome to people: states and notices decided here, written in one transaction, then
# delivered, whether or not they could be written.

_HEARTBEAT_TIMEOUT = 3.0
#: Other scripts' word on what is down holds for so many of the longest intervals.
_FRESH = 4

_LAST_CYCLES = "SELECT script, max(at) FROM cycles GROUP BY script"


class Notifier:
    """Alerting for one process. `clock` gives epoch seconds; `interval`: seconds between two
    cycles of this script (default: how often cron starts it)."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        clock: Callable[[], float],
        *,
        interval: Optional[float] = None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._state, self._clock = settings, state, clock
        self._interval = interval or settings.run.cron_interval
        self._table = _table(settings)
        past = [name for name, (channel, _) in self._table.items() if channel.past]
        give_up_after = settings.alerts.give_up_after
        self._recipients = {
            name: channel.notified(kit) for name, (channel, kit) in self._table.items()
        }
        self._outbox = Outbox(
            state, give_up_after=give_up_after, past=past, recipients=self._recipients
        )
        self._states: Shelf[str, AlertState] = Shelf(
            _STATES, lambda row: text_of(row[0]), lambda row: load_state(row[1]), _store_state
        )
        self._first = True
        # Before the cycle writes anything: it may be the last that can be read.
        self._outbox.refresh(self._states)
        rows = {name: row for name, row in self._table.items() if name != routing.MIRROR}
        self._courier = Sender(self._outbox, state, rows, clock=clock, ticks=ticks)
        self._jobs: dict[str, Callable[[], None]] = {}

    # -- a cycle

    def process(self, outcome: Outcome) -> tuple[AlertRow, ...]:
        """Advance every alert of the script by this cycle and put what is due into the outbox:
        both or neither is kept. Returns the rows of `alerts`. Where nothing can be kept, what is
        bad in the first cycle of this process is notified at once."""
        rules = alerts.paced(self._settings.alerts, self._interval)
        rows, before = self._turn(outcome, rules)
        kept = self._outbox.kept and not self._state.mended
        if self._first and not kept:
            # No earlier cycle is known, and no later one will know of this: a second bad cycle
            # would never be seen, so the first one must do.
            self._states.restore(before)
            eager = replace(rules, failure_threshold=1, window=None)
            rows, _ = self._turn(outcome, eager)
        self._first = False
        return rows

    def _turn(
        self, outcome: Outcome, rules: AlertSettings
    ) -> tuple[tuple[AlertRow, ...], Mapping[str, AlertState]]:
        """The rows, and the states as they were before."""
        with self._outbox.turn(self._states) as tx:
            before = dict(self._states)
            own, others = self._own(outcome)
            found = self._found(own.values(), outcome)
            kept = silences.kept(self._state)
            policy = self._policy(rules, others, silences.in_force(kept), outcome.at)
            result = alerts.step(own, found, policy, outcome.at)
            for notice in (*result.notices, *self._ended(kept, outcome, tx)):
                names = routing.channels_for(notice, self._settings.notifications)
                self._outbox.enqueue(notice, names, outcome.at)
            self._save(own, result.states)
            on, known = tuple(self._table), self._states
            self._outbox.prune(tx, outcome.at, on=on, known=known)
        self._prepare_mirror(result, outcome.at)
        return result.rows, before

    def deliver(self, budget: float) -> tuple[Delivery, ...]:
        """Send what waits in the outbox, of other scripts too, and the mirror; at most `budget`
        seconds long. What did not get through goes again in a later cycle."""
        self._outbox.refresh()
        jobs, self._jobs = self._jobs, {}
        return self._courier.deliver(budget, jobs)

    def heartbeat(self, stage: str) -> None:
        """Ping HEARTBEAT_URL for `stage`: start, success or fail. A failure is a log line."""
        run = self._settings.run
        if run.heartbeat_url:
            agent, tls = run.user_agent, TlsSettings()
            http = HttpClient(tls=tls, timeout=_HEARTBEAT_TIMEOUT, user_agent=agent, trust_env=True)
            ping(http, run.heartbeat_url, stage)

    # -- questions

    def test(self, channel: Optional[str] = None) -> list[tuple[str, bool, str]]:
        """Send a test alert and its resolve through `channel`, or through all that are on, at the
        same time. Returns (channel, worked, why not)."""
        notifications = self._settings.notifications
        if channel is not None and channel not in self._table:
            off = notifications.off.get(channel)
            why = f"off: {off}" if off else f"no such channel; there are {', '.join(CHANNELS)}"
            return [(channel, False, why)]
        names = [channel] if channel else [n for n in self._table if n != routing.LOG]
        notices = _test_notices(self._settings.environment, self._clock())
        return _all_at_once(
            {name: partial(send_now, *self._table[name], notices) for name in names},
            3 * self._settings.alerts.send_budget,
        )

    def report(self) -> alert_report.Report:
        """What fires, since when, who was notified, what waits. Raises StateError where that cannot
        be read."""
        self._outbox.refresh(self._states)
        if self._state.trouble:
            raise StateError(self._state.trouble)
        states = [self._states[key] for key in sorted(self._states)]
        now = self._clock()
        silenced = silences.in_force(silences.kept(self._state))
        silenced = (*self._settings.notifications.silences, *silenced)
        windows = self._settings.notifications.maintenance
        return alert_report.build(
            states,
            self._outbox.notified_channels(),
            self._outbox.waiting(),
            self._pauses(),
            why_quiet=lambda alert: why_quiet(alert, silenced, windows, now),
            silences=[silence for silence in silenced if now < silence.until],
            cycles={str(script): float(at) for script, at in self._state.read(_LAST_CYCLES)},
            now=now,
        )

    def known(self) -> tuple[AlertKey, ...]:
        """The keys of the alerts that are remembered. Raises StateError."""
        self._outbox.refresh(self._states)
        return tuple(self._states[key].alert.key for key in self._states)

    def waiting(self) -> Mapping[str, int]:
        """How many notices wait, by channel that is on; for several recipients each is one."""
        rows = self._outbox.waiting()
        waits = {(channel_of(row.channel), row.key, row.notice.reason) for row in rows}
        return {**dict.fromkeys(self._table, 0), **Counter(channel for channel, _, _ in waits)}

    def attempts(self) -> tuple[tuple[str, str], ...]:
        """Every (channel, outcome) that `deliver` may return, so that a counter of them can stand
        at 0 before the first."""
        names = (name for name in self._table if name != routing.MIRROR)
        return tuple((name, outcome) for name in names for outcome in OUTCOMES)

    def measurements(self, script: str) -> tuple[Measurement, ...]:
        """`payment_api_outbox_waiting` by channel, for the exposition of `script`."""
        name, waiting = "payment_api_outbox_waiting", self.waiting()
        labels = ({"script": script, "channel": channel} for channel in waiting)
        return tuple(Measurement(name, waiting[each["channel"]], each) for each in labels)

    def _pauses(self) -> dict[str, Pause]:
        names = [target(name, each) for name, who in self._recipients.items() for each in who]
        return {name: self._outbox.pause(name) for name in (*self._table, *names)}

    # -- parts of process

    def _own(self, outcome: Outcome) -> tuple[dict[str, AlertState], list[AlertState]]:
        """The states of this script and environment, and those of other scripts. What no run has
        looked at for long, its script or environment being gone, is taken over to be closed."""
        own: dict[str, AlertState] = {}
        others = []
        self._states.own = partial(_at_home, outcome=outcome)
        for key, state in self._states.items():
            if _at_home(state, outcome) or _orphaned(state, outcome):
                own[key] = state
            elif state.alert.key.environment == outcome.environment:
                others.append(state)
        return own, others

    def _save(self, before: Mapping[str, AlertState], after: Mapping[str, AlertState]) -> None:
        for key in before:
            if key not in after:
                self._states.remove(key)
        for key, state in after.items():
            if state != before.get(key):
                self._states[key] = state

    def _found(self, own: Iterable[AlertState], outcome: Outcome) -> tuple[Alert, ...]:
        found = with_reach(outcome.conditions or conditions(outcome), self._state, outcome.at)
        waiting = {row.channel for row in self._outbox.waiting()}
        wanted = {routing.MIRROR, *waiting, *map(channel_of, waiting)}
        found = (*found, *failing_channels(self._pauses(), wanted, outcome))
        known = (state.alert for state in own if not _orphaned(state, outcome))
        return (*found, *vanished(known, found, outcome))

    @staticmethod
    def _ended(
        kept: Mapping[str, Sequence[Silence]], outcome: Outcome, tx: Transaction
    ) -> Iterator[Notice]:
        """Notes on silences that are over; they are forgotten with it."""
        where = (outcome.environment, outcome.script)
        for name, note in silences.ended(kept, *where, outcome.at):
            silences.forget(tx, name)
            yield note

    def _policy(
        self,
        rules: AlertSettings,
        others: Iterable[AlertState],
        silenced: Sequence[Silence],
        now: float,
    ) -> alerts.Policy:
        run, notifications = self._settings.run, self._settings.notifications
        longest = max((run.cron_interval, self._interval, *run.intervals.values()))
        others, since = tuple(others), now - _FRESH * longest
        return alerts.Policy(
            rules,
            (*notifications.silences, *silenced),
            notifications.maintenance,
            alerts.down_components(others, since),
            alerts.impaired_components(others, since),
        )

    def _prepare_mirror(self, result: alerts.AlertStep, now: float) -> None:
        row = self._table.get(routing.MIRROR)
        if row is None:
            return
        silenced = [r.alert.key.text for r in result.rows if r.state in ("silenced", "suppressed")]
        posted = alertmanager.mirror(
            result.states.values(), silenced, row[1], now=now, interval=self._interval
        )
        if posted:
            self._jobs[routing.MIRROR] = partial(alertmanager.post, posted, row[1])


def _table(settings: Settings) -> dict[str, tuple[Channel, ChannelContext]]:
    """The channels that are on, each with what it works with; the log always."""
    table = {}
    for name, channel in CHANNELS.items():
        config = settings.notifications.channels.get(name)
        if config is None and name != routing.LOG:
            continue
        kit = ChannelContext(
            config or {}, settings.alerts, settings.alerts.send_budget, settings.run.user_agent
        )
        table[name] = (channel, kit)
    return table


def _at_home(state: AlertState, outcome: Outcome) -> bool:
    key = state.alert.key
    return (key.environment, key.script) == (outcome.environment, outcome.script)


def _orphaned(state: AlertState, outcome: Outcome) -> bool:
    return outcome.at - state.judged_at >= FORGET_AFTER


_STATES = "SELECT key, body FROM alert_states"


def _store_state(tx: Transaction, key: str, state: Optional[AlertState]) -> None:
    if state is None:
        tx.execute("DELETE FROM alert_states WHERE key = ?", (key,))
    else:
        row = (key, state.alert.key.script, dump_state(state), state.judged_at)
        tx.execute("INSERT OR REPLACE INTO alert_states VALUES (?, ?, ?, ?)", row)


def _test_notices(environment: str, now: float) -> tuple[Notice, ...]:
    # A key of its own each time: a pager that still has yesterday's test open must page.
    key = AlertKey(environment, "test-alerts", f"test-{int(now)}", "test_alert")
    alert = Alert(
        key,
        Severity.WARNING,
        "this is a test of the alert channels; nothing is wrong",
        meaning="Somebody ran --test-alerts.",
        action="Nothing: the resolve follows at once.",
    )
    over = "the test of the alert channels is over"
    return (Notice(alert, "first", now, now), Notice(alert, "resolved", now, now, ended=over))


def _all_at_once(
    jobs: Mapping[str, Callable[[], str]], budget: float
) -> list[tuple[str, bool, str]]:
    """Run every job in a thread of its own; a job gives why it failed, or nothing."""
    results: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for name, job in jobs.items():
        run = partial(_put, results, name, job)
        threading.Thread(target=run, name=f"test-{name}", daemon=True).start()
    found: dict[str, str] = {}
    until = time.monotonic() + budget
    while len(found) < len(jobs) and (left := until - time.monotonic()) > 0:
        try:
            name, why = results.get(timeout=left)
        except queue.Empty:
            break
        found[name] = why
    late = f"no answer within {budget:g} s"
    return [(name, found.get(name, late) == "", found.get(name, late)) for name in jobs]


def _put(results: queue.SimpleQueue[tuple[str, str]], name: str, job: Callable[[], str]) -> None:
    results.put((name, job()))
