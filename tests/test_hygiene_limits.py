"""Rules of hygiene, of grouping and of time watched, at "one" and at "equal"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitoring.alerts.grouping import _worst_member
from monitoring.certainty import Severity, _divided
from monitoring.config.settings import Limit, TokenSettings
from monitoring.model import Measurement
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
