"""Decision: judged clients and what was counted of them -> the figures, and which are exported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from monitoring.anomaly.types import REASONS, SHARED_REASONS, Anomaly
from monitoring.catalog import METRICS
from monitoring.client_bound import OTHER, series_of
from monitoring.credentials.facts import UNKNOWN_CLIENT, VERDICTS, Totals, Window
from monitoring.credentials.judged import ClientVerdict
from monitoring.credentials.rotation_states import state_of
from monitoring.credentials.rotations import SEVERITIES
from monitoring.model import Measurement, Severity, Verdict
from monitoring.services.families import (
    CLIENTS,
    FAILURES,
    MORE,
    USES,
    Unsure,
    doubts_of,
    leaves_open,
)

ALL = "all"
#: Logins below which a share of failures says nothing: one slip of one client would be 100 %.
ENOUGH_LOGINS = 20


# -- figures


@dataclass(frozen=True)
class Figures:
    """What the figures are made from, beside the judged clients. `known` None: it is not known who
    is registered. `counted`: every client id that the services count. `anomalies` None: no bucket
    was judged in this cycle; `recent` those of the window (None: logins were never counted).
    `shown`: the clients with counters of their own. `countable`: some service was read, now or
    before. `unsure`: what the newest page leaves open."""

    window: Window
    totals: Mapping[str, Totals]
    known: Optional[Collection[str]]
    counted: Collection[str] = ()
    anomalies: Optional[Sequence[Anomaly]] = None
    recent: Optional[int] = None
    shown: Collection[str] = ()
    countable: bool = False
    unsure: tuple[Unsure, ...] = ()


def measurements(
    judged: Sequence[ClientVerdict], figures: Figures, now: float
) -> list[Measurement]:
    """Every figure of every client; `bounded` chooses which are exported."""
    return [
        *_whole_figures(judged, figures),
        *_logins(judged, figures),
        *(m for each in judged for m in _of_client(each, now)),
        *(_gauge("credential_verdicts", float(n), verdict=v) for v, n in _verdicts(judged)),
    ]


def _gauge(name: str, value: Optional[float], **labels: str) -> Measurement:
    return Measurement(f"payment_api_{name}", value, labels)


def _verdicts(judged: Sequence[ClientVerdict]) -> Iterator[tuple[str, int]]:
    for verdict in VERDICTS:
        yield verdict, sum(each.verdict.verdict == verdict for each in judged)


def _of_client(each: ClientVerdict, now: float) -> Iterator[Measurement]:
    client, verdict, tokens = series_of(each.client), each.verdict, each.facts.tokens
    yield _gauge("credential_rotation_state", 1.0, client_id=client, state=verdict.state)
    exact = not verdict.age.at_least and not each.policy.excluded  # a minimum is no age
    if exact:
        yield _gauge("credential_age_seconds", verdict.age.seconds(now), client_id=client)
    if exact and verdict.due_in is not None:
        yield _gauge("credential_due_seconds", verdict.due_in, client_id=client)
    old = tokens.known(tokens.old) if tokens is not None else None
    if old is not None:
        yield _gauge("credential_old_version_tokens", float(old), client_id=client)


def _logins(judged: Sequence[ClientVerdict], figures: Figures) -> Iterator[Measurement]:
    window, name = figures.window, "payment_api_authentication_failures_recent"
    doubts = doubts_of(figures.window.unsure, MORE)
    for each in judged if window.seconds is not None else ():
        labels, least = {"client_id": series_of(each.client)}, window.failed_at_least(each.client)
        yield Measurement(name, window.failures(each.client), labels, doubts, least)
    for client, total in _counted(figures).items():
        if not leaves_open(figures.unsure, USES):
            yield _gauge("authentication_attempts_total", total.attempts, client_id=client)
        # A count that leaves out more than it holds is not given.
        if not leaves_open(figures.unsure, FAILURES) and total.unknown <= total.failures:
            yield _gauge("authentication_failures_total", total.failures, client_id=client)


def _counted(figures: Figures) -> dict[str, Totals]:
    """What was counted of each client that has counters of its own, and of all others together:
    strangers among them, and clients that are gone, since a count never falls. Known clients stand
    at 0 before their first login, so that increase() sees it. Empty where no service could ever be
    read; of single clients only where services say whose logins they are."""
    if not figures.countable and not figures.totals:
        return {}
    known = () if leaves_open(figures.unsure, CLIENTS) else sorted(figures.shown)
    rest = [total for client, total in figures.totals.items() if client not in known]
    others = Totals(
        sum(total.attempts for total in rest),
        sum(total.failures for total in rest),
        unknown=sum(total.unknown for total in rest),
    )
    own = {series_of(client): figures.totals.get(client, Totals()) for client in known}
    return {**own, OTHER: others}


def _whole_figures(judged: Sequence[ClientVerdict], figures: Figures) -> Iterator[Measurement]:
    window, share = figures.window, figures.window.failure_share
    least = None if window.seconds is None else window.all.failed
    name = "payment_api_authentication_failures_recent"
    doubts = doubts_of(window.unsure, MORE)
    yield Measurement(name, window.all_failures, {"client_id": ALL}, doubts, least)
    yield _gauge("authentication_failure_ratio", share)
    yield _gauge("authentication_success_ratio", window.success_share)
    yield _gauge("unknown_client_ids", _unknown_ids(figures))
    yield _gauge("unauthorized_access_attempts", _unauthorized(judged, figures))
    yield _gauge(
        "credential_access_anomalies_recent",
        None if figures.recent is None else float(figures.recent),
    )
    for reason in (*REASONS, *SHARED_REASONS) if figures.anomalies is not None else ():
        many = sum(anomaly.reason == reason for anomaly in figures.anomalies or ())
        yield _gauge("credential_access_anomalies", float(many), reason=reason)


def _unknown_ids(figures: Figures) -> Optional[float]:
    """None where nobody knows who is registered, or no service was read that says whose logins it
    counts."""
    if figures.known is None or not figures.counted or leaves_open(figures.unsure, CLIENTS):
        return None
    return float(len(set(figures.counted) - set(figures.known) - {""}))


def _unauthorized(judged: Sequence[ClientVerdict], figures: Figures) -> Optional[float]:
    if figures.known is None or not figures.window.by_client:
        return None
    names = [each.client for each in judged if state_of(each.facts) == "disabled"]
    usages = (figures.window.clients.get(name) for name in (UNKNOWN_CLIENT, *names))
    return sum(usage.attempts for usage in usages if usage is not None)


# -- limits, and how much is shown


def to_judge(
    judged: Sequence[ClientVerdict], figures: Sequence[Measurement], logins: float
) -> list[Measurement]:
    """The figures that thresholds may judge: not the age of a client with a policy of its own, and
    no share of too few `logins`. A client's own policy speaks through its verdict."""
    apart = {series_of(each.client) for each in judged if each.own_policy or each.by_rotator}
    return [m for m in figures if _fit(m, apart, logins)]


def _fit(figure: Measurement, apart: Collection[str], logins: float) -> bool:
    if figure.name == "payment_api_credential_age_seconds":
        return figure.labels["client_id"] not in apart and figure.value is not None
    if figure.name == "payment_api_authentication_failure_ratio":
        return figure.value is None or logins >= ENOUGH_LOGINS or figure.value == 0.0
    return True


def bounded(
    figures: Sequence[Measurement],
    judged: Sequence[ClientVerdict],
    verdicts: Sequence[Verdict],
    *,
    totals: Mapping[str, Totals],
    top: int,
) -> list[Measurement]:
    """The figures to export: of the `top` clients that log in most, and of at most as many more
    that need attention; what adds up of the others is summed as "other". Counters come summed
    already, with other clients apart (`Figures.shown`)."""
    busy = sorted((j.client for j in judged), key=lambda c: (-_attempts(totals, c), c))
    shown = {*map(series_of, (*busy[:top], *_troubled(judged, verdicts)[:top])), ALL}
    kept: list[Measurement] = []
    rest: dict[str, Optional[float]] = {}
    for figure in figures:
        client = figure.labels.get("client_id")
        if client is None or client in shown or METRICS[figure.name].kind == "counter":
            kept.append(figure)
        elif METRICS[figure.name].summable and "state" not in figure.labels:
            rest[figure.name] = _sum(rest.get(figure.name, 0.0), figure.value)
    return [*kept, *(Measurement(n, value, {"client_id": OTHER}) for n, value in rest.items())]


def _sum(one: Optional[float], other: Optional[float]) -> Optional[float]:
    """A sum of which a part is not known is not known."""
    return None if one is None or other is None else one + other


def _attempts(totals: Mapping[str, Totals], client: str) -> float:
    return totals[client].attempts if client in totals else 0.0


def _troubled(judged: Sequence[ClientVerdict], verdicts: Sequence[Verdict]) -> list[str]:
    bad = {v.measurement.labels.get("client_id") for v in verdicts if v.severity > Severity.UNKNOWN}
    return [
        each.client
        for each in judged
        if series_of(each.client) in bad or SEVERITIES[each.verdict.verdict] > Severity.UNKNOWN
    ]
