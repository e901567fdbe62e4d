"""Keep: how many tokens and clients an outage concerns, as the cache was last counted.

The token script counts them, mostly in another process, so the figures come from the samples it
left in the state file. While the cache itself is down nobody can count: the text says when it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Iterable, Optional, Tuple

from monitoring.conditions import UP
from monitoring.durations import say
from monitoring.model import Alert, Severity
from monitoring.state import State
from monitoring.timestamps import iso_seconds

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


def with_reach(alerts: Iterable[Alert], state: State, now: float) -> Tuple[Alert, ...]:
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
