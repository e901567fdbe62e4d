"""Rules of hygiene, of grouping and of time watched, at "one" and at "equal"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from monitoring.alerts import grouping
from monitoring.alerts.grouping import _worst_member
from monitoring.alerts.state import AlertState
from monitoring.certainty import Severity, _divided
from monitoring.config.settings import Limit, TokenSettings
from monitoring.model import Alert, Measurement
from monitoring.thresholds import judge
from monitoring.tokens import hygiene
from monitoring.tokens.codecs.facts import Decoded
from tests.alerting_kit import alert
from tests.token_kit import token


def test_clients_are_counted_up_to_the_bound_and_those_known_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hygiene, "CLIENTS_COUNTED", 2)
    book = hygiene.HygieneBook(TokenSettings())
    for whose in ("a", None, "b", "c", "a"):
        book.note("without_ttl", whose)
    (found,) = book.findings()
    assert found.count == 5, "all are counted"
    assert dict(found.worst) == {"a": 2, "b": 1}, "by name the first two only, and nobody is none"


def test_a_token_without_fault_is_fine() -> None:
    book = hygiene.HygieneBook(TokenSettings(algorithms=(), issuer="", audience=""))
    assert book.inspect(token("a", 1, jti=None)) is False
    assert book.inspect(token("a", 1)) is True


@pytest.mark.parametrize(("share", "said"), [(1.0, ": 3."), (1.5, ": about "), (2.0, ": about 6.")])
def test_only_what_stands_for_more_than_itself_is_about(share: float, said: str) -> None:
    book = hygiene.HygieneBook(TokenSettings())
    book.note("without_ttl", "a", 3, sample="s")
    (found,) = book.findings(shares={"s": share})
    assert said in found.sentence


def test_of_clients_with_equally_many_the_first_by_name_comes_first() -> None:
    book = hygiene.HygieneBook(TokenSettings())
    for client, count in (("b", 2), ("c", 9), ("a", 2)):
        book.note("without_ttl", client, count)
    (found,) = book.findings()
    assert found.worst == (("c", 9), ("a", 2), ("b", 2))


@pytest.mark.parametrize(
    ("sentence", "audience", "wrong"),
    [
        ("ours", "us", False),
        ("ours among others", ("us", "them"), False),
        ("another's", "them", True),
        ("others'", ("them", "those"), True),
        ("a name that only holds ours", "bus", True),
        ("an empty list is another fault", (), False),
    ],
)
def test_the_audience(*, sentence: str, audience: object, wrong: bool) -> None:
    book = hygiene.HygieneBook(TokenSettings(audience="us", issuer="", algorithms=()))
    book.inspect(token("a", 1, aud=audience))
    found = {each.name for each in book.findings()}
    assert ("unexpected_audience" in found) is wrong, sentence


def test_what_is_known_by_its_least_and_below_the_limits_is_not_measured() -> None:
    figure = Measurement("payment_api_authentication_failures", None, {}, at_least=1.0)
    for verdict in judge([figure], {"security.authentication_failures": Limit(5, 10)}):
        assert (verdict.severity, verdict.why) == (Severity.UNKNOWN, "not_measured")


def test_an_alert_without_figures_is_beyond_no_limit() -> None:
    bare = alert()
    slightly = replace(alert(), value=10.5, threshold=10.0)
    assert _worst_member(bare)[1] == 0.0
    assert sorted([bare, slightly], key=_worst_member) == [slightly, bare]


@pytest.mark.parametrize(
    ("value", "threshold", "other"),
    [
        (0.0, 5.0, 0.5),  # five below the limit, which is farther than four and a half
        (5.0, 0.0, 9.5),  # five above a limit of nothing
    ],
)
def test_a_figure_of_nothing_is_a_figure(value: float, threshold: float, other: float) -> None:
    far = replace(alert(component="z"), value=value, threshold=threshold)
    near = replace(alert(component="a"), value=other, threshold=5.0)
    assert sorted([near, far], key=_worst_member) == [far, near]


def of(metric: str, component: str = "payment-eapi", client: str = "", **more: Any) -> Alert:
    return alert(component=component, metric=metric, client=client, summary=metric, **more)


FIRST_READ = (
    of("health_status", "conjur-vault"),
    of("failures_then_success", client="c4", category="security"),
    of("failure_burst", client="c4", category="security"),
    of("failure_burst", category="security"),  # of equals, that which names a client
    of("token_without_birth", category="security"),  # of another cause
    of("redis_response_time", "redis-cache"),
    of("authentication_time", "redis-cache"),
    of("redis_response_time", "conjur-vault"),
    of("authentication_time", "authentication-flow"),
    of("redis_response_time", "elsewhere"),
    of("authentication_time", "elsewhere"),
    of("tls_certificate_days", "elsewhere", client="c4"),
    of("tls_certificate_days", "elsewhere"),
)


def test_what_is_read_first() -> None:
    wrong_way = FIRST_READ[::-1]
    assert tuple(sorted(wrong_way, key=grouping.place)) == FIRST_READ
    assert grouping.foremost(wrong_way) == FIRST_READ[0]
    assert grouping.foremost(()) is None


@pytest.mark.parametrize(
    ("clients", "more", "evidence"),
    [
        (("c4", ""), "", {}),
        (("c4", "c5", ""), " (and 1 more client)", {"clients": 2}),
        (("c4", "c5", "c6"), " (and 2 more clients)", {"clients": 3}),
    ],
)
def test_an_incident_says_how_many_clients_it_is_about(
    clients: Sequence[str], more: str, evidence: Mapping[str, int]
) -> None:
    members = [of("failure_burst", client=client) for client in clients]
    stands, every = grouping.incident(reversed(members))
    assert (stands.summary, stands.evidence) == ("failure_burst" + more, evidence)
    assert {each.key for each in every} == {each.key for each in members}


def test_of_equals_an_incident_is_told_by_the_one_with_a_client_and_the_larger_figure() -> None:
    both = [of("failure_burst"), of("failure_burst", client="c4")]
    assert grouping.incident(both)[1][0].key.client
    unknown, little = of("failure_burst", client="a"), of("failure_burst", client="b", value=0.5)
    assert grouping.incident([unknown, little])[1] == (little, unknown)


def test_the_share_of_all_says_nothing_new_beside_a_client_of_the_same_rank() -> None:
    known = AlertState(of("failure_burst", client="c4"))
    assert not grouping.news(of("failure_burst"), [known])
    assert grouping.news(of("failures_then_success"), [known])
    assert grouping.news(of("failure_burst", client="c5"), [known])


def test_the_metrics_of_a_cause() -> None:
    assert grouping.metrics_of(grouping.LOGINS) == grouping._LOGINS
    assert grouping.metrics_of(grouping.SLOW) == grouping._SLOW
    assert grouping.metrics_of("weather") == ()


def test_of_two_spans_that_overlap_in_part_each_gets_half_of_that() -> None:
    assert _divided([(0.0, 60.0, 0), (30.0, 90.0, 1)], 2) == pytest.approx([45.0, 45.0])
    assert _divided([(0.0, 60.0, 0), (0.0, 60.0, 1)], 2) == pytest.approx([30.0, 30.0])


def test_a_decoded_token_without_claims_has_the_faults_of_its_kind() -> None:
    book = hygiene.HygieneBook(TokenSettings())
    assert not book.inspect(Decoded(encoding="json"))
    names = {each.name for each in book.findings()}
    assert names == {"missing_exp", "missing_iat", "missing_jti", "missing_client"}


def test_a_finding_is_counted_apart_from_others_and_over_all_samples() -> None:
    noted = hygiene.HygieneBook(TokenSettings())
    noted.note("lifetime_too_long", None, 2)
    noted.note("lifetime_too_long", None, 3, sample="probe")
    noted.note("issued_in_future", None, 7)
    assert (noted.count("lifetime_too_long"), noted.count("issued_in_future")) == (5, 7)
    assert noted.count("no_expiry") == 0
