"""Every name that an alert may carry has its advice."""

from __future__ import annotations

import re

import pytest

from monitoring.alerts import advice, advice as advice_findings, advice_texts
from monitoring.anomaly.types import REASONS
from monitoring.catalog import THRESHOLDS
from monitoring.components import COMPONENTS, ROWS
from monitoring.health import login as health_login
from monitoring.model import FAULT_KINDS
from monitoring.tokens import hygiene as token_hygiene

DASHBOARDS = {"payment-api-security", "payment-api-health", "payment-api-auth"}


def whole(got: advice.Advice) -> bool:
    sentences = (got.meaning, got.action)
    return all(s[:1].isupper() and s.endswith(".") for s in sentences) and bool(
        re.fullmatch(r"[a-z][a-z-]+", got.runbook) and got.dashboard in DASHBOARDS
    )


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_threshold_has_its_own_text_and_page(name: str) -> None:
    assert name in advice_texts.THRESHOLDS
    got = advice.for_threshold(name)
    assert got.runbook == THRESHOLDS[name].runbook != ""
    assert whole(got), got


def test_no_text_is_about_a_threshold_that_is_gone() -> None:
    assert set(advice_texts.THRESHOLDS) == set(THRESHOLDS)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("kind", ["", *FAULT_KINDS])
def test_every_component_and_fault_has_a_text(component: str, kind: str) -> None:
    assert component in ROWS
    got = advice.for_component(component, kind)
    assert whole(got)
    assert not kind or advice_texts.FAULTS[kind] in got.action


@pytest.mark.parametrize("kind", ["", *FAULT_KINDS])
def test_what_is_degraded_for_a_known_cause_says_what_to_do_about_it(kind: str) -> None:
    got = advice.for_degraded("conjur-vault", kind)
    known = kind != "" and kind not in advice_texts.UNEXPLAINED
    assert got.action == (advice_texts.FAULTS[kind] if known else advice_texts.DEGRADED[1])
    ours = kind in ("auth", "noperm", "config")
    assert ("does not see all of it" in got.meaning) == ours
    assert whole(got), got


@pytest.mark.parametrize("reason", REASONS)
def test_every_anomaly_has_its_own_text(reason: str) -> None:
    assert reason in advice_findings.FINDINGS
    assert whole(advice.for_finding(reason))


@pytest.mark.parametrize(
    ("reason", "page"),
    [
        *((name, "token-hygiene") for name in (*token_hygiene.RULES, "token_unsigned")),
        *((f"accepts_{name}", "proof-accepted") for name in health_login.PROOFS),
        *((name, "token-hygiene") for name in ("tokens_without_ttl", "undecodable_tokens")),
        *((name, "rotation-overdue") for name in ("stuck", "overdue", "rotation_failed")),
        *((name, "rotation-overdue") for name in ("rotator_stuck", "tokens_outlive_credential")),
    ],
)
def test_families_of_findings_share_a_page(reason: str, page: str) -> None:
    got = advice.for_finding(reason)
    assert whole(got)
    assert got.runbook == page
    assert page in advice.runbooks()


@pytest.mark.parametrize("category", ["security", "performance", "availability", "unheard-of"])
def test_what_has_no_text_gets_its_categorys(category: str) -> None:
    assert whole(advice.for_finding("some_new_reason", category))
    assert whole(advice.for_threshold("no.such_threshold"))
    assert whole(advice.for_blindness())


def test_the_list_of_pages_is_complete() -> None:
    pages = advice.runbooks()
    assert {t.runbook for t in THRESHOLDS.values()} <= set(pages)
    assert "monitoring-blind" in pages
    assert list(pages) == sorted(set(pages))
