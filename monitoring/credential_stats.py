"""Decision: judged clients and what was counted of them -> the figures, and which are exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import (
    Collection,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from monitoring.anomaly.types import REASONS, Anomaly, Usage
from monitoring.catalog import METRICS
from monitoring.client_bound import OTHER, series_of
from monitoring.credentials.facts import VERDICTS
from monitoring.credentials.judged import Judged
from monitoring.credentials.rotation_states import state_of
from monitoring.credentials.rotations import SEVERITIES
from monitoring.credentials.usage_counters import UNKNOWN_CLIENT
from monitoring.credentials.usage_history import Totals, Window
from monitoring.model import Measurement, Severity, Verdict

ALL = "all"
#: Logins below which a share of failures says nothing: one slip of one client would be 100 %.
ENOUGH_LOGINS = 20


# -- figures


@dataclass(frozen=True)
class Figures:
    """What the figures are made from, beside the judged clients. `known` None: it is not known who
    is registered. `counted`: every client id that the services count. `anomalies` None: no bucket
    was judged in this cycle; `recent` those of the window (None: logins were never counted).
    `shown`: the clients with counters of their own."""

    window: Window
    totals: Mapping[str, Totals]
    known: Optional[Collection[str]]
    counted: Collection[str] = ()
    anomalies: Optional[Sequence[Anomaly]] = None
    recent: Optional[int] = None
    shown: Collection[str] = ()


def measurements(judged: Sequence[Judged], figures: Figures, now: float) -> List[Measurement]:
    """Every figure of every client; `bounded` chooses which are exported."""
    return [
        *_whole_figures(judged, figures),
        *_logins(judged, figures),
        *(m for each in judged for m in _of_client(each, now)),
        *(_gauge("credential_verdicts", float(n), verdict=v) for v, n in _verdicts(judged)),
    ]


def _gauge(name: str, value: Optional[float], **labels: str) -> Measurement:
    return Measurement(f"payment_api_{name}", value, labels)


def _verdicts(judged: Sequence[Judged]) -> Iterator[Tuple[str, int]]:
    for verdict in VERDICTS:
        yield verdict, sum(each.verdict.verdict == verdict for each in judged)


def _of_client(each: Judged, now: float) -> Iterator[Measurement]:
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


def _logins(judged: Sequence[Judged], figures: Figures) -> Iterator[Measurement]:
    window = figures.window
    for each in judged:
        if window.seconds is not None:
            failed = window.clients.get(each.client, Usage(0.0, 0.0)).failed
            yield _gauge("authentication_failures_recent", failed, client_id=series_of(each.client))
    rest = [total for client, total in figures.totals.items() if client not in figures.shown]
    own = [client for client in sorted(figures.shown) if client in figures.totals]
    counted = {series_of(client): figures.totals[client] for client in own}
    if rest:  # strangers among them, and clients that are gone: a count never falls
        counted[OTHER] = Totals(sum(t.attempts for t in rest), sum(t.failures for t in rest))
    for client, total in counted.items():
        yield _gauge("authentication_attempts_total", total.attempts, client_id=client)
        yield _gauge("authentication_failures_total", total.failures, client_id=client)


def _whole_figures(judged: Sequence[Judged], figures: Figures) -> Iterator[Measurement]:
    usages, watched = figures.window.clients.values(), figures.window.seconds is not None
    ok, failed = sum(u.ok for u in usages), sum(u.failed for u in usages)
    share = failed / (ok + failed) if watched and ok + failed else None
    yield _gauge("authentication_failures_recent", failed if watched else None, client_id=ALL)
    yield _gauge("authentication_failure_ratio", share)
    yield _gauge("authentication_success_ratio", None if share is None else 1.0 - share)
    yield _gauge("unknown_client_ids", _unknown_ids(figures))
    yield _gauge("unauthorized_access_attempts", _unauthorized(judged, figures))
    yield _gauge(
        "credential_access_anomalies_recent",
        None if figures.recent is None else float(figures.recent),
    )
    for reason in REASONS if figures.anomalies is not None else ():
        many = sum(anomaly.reason == reason for anomaly in figures.anomalies or ())
        yield _gauge("credential_access_anomalies", float(many), reason=reason)


def _unknown_ids(figures: Figures) -> Optional[float]:
    """None where nobody knows who is registered, or no service was read."""
    if figures.known is None or not figures.counted:
        return None
    return float(len(set(figures.counted) - set(figures.known) - {""}))


def _unauthorized(judged: Sequence[Judged], figures: Figures) -> Optional[float]:
    if figures.known is None or figures.window.seconds is None:
        return None
    names = [each.client for each in judged if state_of(each.facts) == "disabled"]
    usages = (figures.window.clients.get(name) for name in (UNKNOWN_CLIENT, *names))
    return sum(usage.ok + usage.failed for usage in usages if usage is not None)


# -- limits, and how much is shown


def to_judge(judged: Sequence[Judged], figures: Sequence[Measurement]) -> List[Measurement]:
    """The figures that thresholds may judge: not the age of a client with a policy of its own, and
    no share of too few logins. A client's own policy speaks through its verdict."""
    apart = {series_of(each.client) for each in judged if each.own_policy or each.by_rotator}
    logins = sum(each.facts.use.uses or 0.0 for each in judged)
    return [m for m in figures if _fit(m, apart, logins)]


def _fit(figure: Measurement, apart: Collection[str], logins: float) -> bool:
    if figure.name == "payment_api_credential_age_seconds":
        return figure.labels["client_id"] not in apart and figure.value is not None
    if figure.name == "payment_api_authentication_failure_ratio":
        return figure.value is None or logins >= ENOUGH_LOGINS or figure.value == 0.0
    return True


def bounded(
    figures: Sequence[Measurement],
    judged: Sequence[Judged],
    verdicts: Sequence[Verdict],
    *,
    totals: Mapping[str, Totals],
    top: int,
) -> List[Measurement]:
    """The figures to export: of the `top` clients that log in most, and of at most as many more
    that need attention; what adds up of the others is summed as "other". Counters come summed
    already, with other clients apart (`Figures.shown`)."""
    busy = sorted((j.client for j in judged), key=lambda c: (-_attempts(totals, c), c))
    shown = {*map(series_of, (*busy[:top], *_troubled(judged, verdicts)[:top])), ALL}
    kept: List[Measurement] = []
    rest: Dict[str, float] = {}
    for figure in figures:
        client = figure.labels.get("client_id")
        if client is None or client in shown or METRICS[figure.name].kind == "counter":
            kept.append(figure)
        elif METRICS[figure.name].summable and "state" not in figure.labels:
            rest[figure.name] = rest.get(figure.name, 0.0) + (figure.value or 0.0)
    return [*kept, *(Measurement(n, value, {"client_id": OTHER}) for n, value in rest.items())]


def _attempts(totals: Mapping[str, Totals], client: str) -> float:
    return totals[client].attempts if client in totals else 0.0


def _troubled(judged: Sequence[Judged], verdicts: Sequence[Verdict]) -> List[str]:
    bad = {v.measurement.labels.get("client_id") for v in verdicts if v.severity > Severity.UNKNOWN}
    return [
        each.client
        for each in judged
        if series_of(each.client) in bad or SEVERITIES[each.verdict.verdict] > Severity.UNKNOWN
    ]
