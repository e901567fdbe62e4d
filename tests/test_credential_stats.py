"""Rows, figures, limits and findings of credentials, on a real stack where logins matter."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

import credential_usage_metrics
from credential_usage_metrics import outcome_of
from monitoring.alerts.conditions import conditions
from monitoring.anomaly.detector import Detector
from monitoring.anomaly.store import AnomalyStore
from monitoring.anomaly.types import Bucket, Sensitivity, Usage
from monitoring.catalog import METRICS
from monitoring.config.settings import CredentialSettings, Limit
from monitoring.credentials import report as credential_report
from monitoring.credentials.facts import (
    CACHE,
    EAPI,
    ROTATIONS,
    SAPI,
    VAULT,
    Age,
    CachedFacts,
    CredentialFacts,
    LedgerFacts,
    Policy,
    RotationFacts,
    TokenFacts,
    Totals,
    UseFacts,
    VaultFacts,
    Window,
)
from monitoring.credentials.figures import Figures, bounded, measurements
from monitoring.credentials.findings import findings, of_vault
from monitoring.credentials.judged import ClientVerdict, doubts_of, judge_all, policy_of, row, rows
from monitoring.credentials.memory import ShownClients
from monitoring.credentials.rotations import SEVERITIES, judge
from monitoring.credentials.watch import CredentialSnapshot, CredentialWatch
from monitoring.model import Outcome, Severity, Source
from monitoring.output import report
from monitoring.store.state import State
from sandbox.stack import Stack
from tests.credential_kit import (
    DAY,
    HOUR,
    asked_of,
    by_client,
    log_in,
    quiet_stack,
    reasons,
    settings_of,
)

NOW = 1_795_392_000.0
SETTINGS = CredentialSettings()
INVENTORY = credential_report.inventory
PLAIN = SimpleNamespace(environment="dev", thresholds={}, credentials=SETTINGS)


def seen(picture: CredentialSnapshot) -> credential_report.Seen:
    return credential_report.Seen(picture, outcome_of(picture, PLAIN))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shared() -> Iterator[Stack]:
    with quiet_stack(5) as running:
        yield running


class Script:
    """The script's own cycle over a stack, cycle after cycle."""

    def __init__(self, stack: Stack, folder: Path, state: State, **credentials: Any) -> None:
        self.stack, self.state = stack, state
        self.settings = settings_of(stack, folder, **credentials)
        asked = asked_of(stack, self.settings)
        kit = SimpleNamespace(
            settings=self.settings,
            clock=stack.now,
            state=state,
            interval=300.0,
            http=lambda service: asked.eapi,
            conjur=lambda: asked.conjur,
        )
        self.usage = credential_usage_metrics.CredentialUsage(kit)  # type: ignore[arg-type]

    def cycle(self) -> Outcome:
        return self.usage.cycle(self.stack.now())


@pytest.fixture
def script(shared: Stack, tmp_path: Path) -> Iterator[Script]:
    for name in shared.options.client_ids():
        shared.eapi.cache.store_credential(shared.book.credential(name))  # type: ignore[union-attr]
    with State.open(tmp_path / "state") as state:
        made = Script(shared, tmp_path, state)
        made.cycle()
        shared.advance(60)
        yield made
    shared.advance(2 * HOUR)  # out of the next test's window


def figure(outcome: Outcome, name: str, **labels: str) -> Optional[float]:
    found = [
        m.value
        for m in outcome.measurements
        if m.name == f"payment_api_{name}" and labels.items() <= m.labels.items()
    ]
    (value,) = found
    return value


def crossed(outcome: Outcome) -> set[tuple[str, str]]:
    """(threshold, severity) of every verdict that is not fine."""
    return {(v.threshold, v.severity.word) for v in outcome.verdicts if v.limit is not None}


# -- logins


def test_failed_logins_fire_per_client_and_overall(script: Script) -> None:
    stack = script.stack
    for _ in range(6):
        assert not log_in(stack, "client-001", "wrong")
    for _ in range(14):
        assert log_in(stack, "client-002")
    outcome = script.cycle()
    assert figure(outcome, "authentication_failures_recent", client_id="client-001") == 6
    assert figure(outcome, "authentication_failures_recent", client_id="all") == 6
    assert figure(outcome, "authentication_failure_ratio") == pytest.approx(0.3)
    assert figure(outcome, "authentication_failures_total", client_id="client-001") == 6
    assert crossed(outcome) == {
        ("security.authentication_failures", "warning"),
        ("security.authentication_failure_ratio", "critical"),
    }
    row = (outcome.credentials or {})["client-001"]
    assert (row["uses"], row["failures"], row["failure_rate"]) == (6, 6, 1.0)
    firing = {a.key.client for a in conditions(outcome) if a.severity is Severity.WARNING}
    assert "client-001" in firing


def test_a_share_of_few_logins_is_shown_and_not_judged(script: Script) -> None:
    assert not log_in(script.stack, "client-001", "wrong")
    outcome = script.cycle()
    assert figure(outcome, "authentication_failure_ratio") == 1.0
    assert crossed(outcome) == set()


def test_unknown_client_ids_are_counted_and_never_named(script: Script) -> None:
    for number in range(7):
        assert not log_in(script.stack, f"stranger-{number}", "x")
    outcome = script.cycle()
    assert figure(outcome, "unknown_client_ids") == 7
    assert figure(outcome, "unauthorized_access_attempts") == 7
    assert ("security.unauthorized_access_attempts", "warning") in crossed(outcome)
    assert "stranger" not in json.dumps(report.as_json(outcome))
    assert not script.state.read("SELECT 1 FROM buckets WHERE client LIKE 'stranger%'")


def test_a_disabled_client_that_tries_is_unauthorized(script: Script) -> None:
    stack = script.stack
    account = stack.book.accounts["client-003"]
    assert log_in(stack, "client-003")
    account.active = False
    stack.eapi.cache.store_credential(stack.book.credential("client-003"))  # type: ignore[union-attr]
    assert not log_in(stack, "client-003")
    outcome = script.cycle()
    mine = {f.reason: f for f in outcome.findings if f.client == "client-003"}
    assert set(mine) == {"tokens_outlive_credential", "disabled_credential_used"}
    assert "1 live token" in mine["tokens_outlive_credential"].sentence
    assert figure(outcome, "unauthorized_access_attempts") == 2
    account.active = True


def test_the_canary_is_in_no_count(script: Script) -> None:
    canary = script.settings.canary.client_id
    assert log_in(script.stack, canary)
    assert log_in(script.stack, "client-001")  # of whom there is a count to be left out of
    outcome = script.cycle()
    assert canary not in json.dumps(report.as_json(outcome))
    assert figure(outcome, "unknown_client_ids") is not None


def test_failures_followed_by_success(script: Script) -> None:
    stack = script.stack
    for _ in range(11):
        log_in(stack, "client-004", "guess")
    script.cycle()
    stack.advance(60)
    assert log_in(stack, "client-004")
    found = [f for f in script.cycle().findings if f.client == "client-004"]
    assert [f.reason for f in found] == ["failures_then_success"]
    assert "a login succeeded after 11 failed logins" in found[0].sentence
    assert found[0].severity is Severity.CRITICAL


def test_every_figure_is_of_the_catalogue_with_its_labels(script: Script) -> None:
    for measured in script.cycle().measurements:
        assert set(measured.labels) == set(METRICS[measured.name].labels), measured


def test_what_cannot_be_read_is_unknown_and_never_nought(shared: Stack, tmp_path: Path) -> None:
    shared.faults.set("eapi-down")
    shared.faults.set("conjur-down")
    with State.open(tmp_path / "fresh") as state:
        outcome = Script(shared, tmp_path, state).cycle()
    shared.faults.clear()
    assert figure(outcome, "authentication_failures_recent", client_id="all") is None
    assert figure(outcome, "unauthorized_access_attempts") is None
    assert figure(outcome, "credential_access_anomalies_recent") is None
    assert outcome.status is Severity.WARNING
    assert all(row["uses"] is None for row in (outcome.credentials or {}).values())


# -- anomalies


def hours(count: int, burst: Optional[int] = None) -> Iterator[Bucket]:
    for hour in range(count):
        failed = 300.0 if hour == burst else 0.0
        clients = {"c1": Usage(60.0 + hour % 5, failed), "c2": Usage(20.0, 0.0)}
        yield Bucket(NOW + hour * 3600, 3600.0, clients)


def test_profiles_survive_restarts_and_are_shared(tmp_path: Path) -> None:
    """Two monitors feed in turn and start anew every day: they find what one detector finds."""
    found, single = [], Detector(Sensitivity())
    alone = [a for b in hours(24 * 20, burst=24 * 20 - 5) for a in single.feed(b)]
    for number, bucket in enumerate(hours(24 * 20, burst=24 * 20 - 5)):
        if number % 24 == 0:
            states = [State.open(tmp_path / "s") for _ in range(2)]
            stores = [AnomalyStore(state, Sensitivity()) for state in states]
        end = bucket.at + 3600
        found += [t.anomaly for t in stores[number % 2].feed(bucket, end, 60) if t.at == end]
        if number % 24 == 23:
            for state in states:
                state.close()
    assert [(a.at, a.client, a.reason, a.score) for a in found] == [
        (a.at, a.client, a.reason, a.score) for a in alone
    ]
    assert "failure_burst" in {a.reason for a in found}


def test_an_anomaly_is_a_finding_a_figure_and_crosses_its_limit(
    shared: Stack, tmp_path: Path
) -> None:
    """Three weeks of hours in the state file, then the burst arrives through EAPI's counters."""
    with State.open(tmp_path / "state") as state:
        script = Script(shared, tmp_path, state)
        script.cycle()
        store = AnomalyStore(state, Sensitivity())
        start = shared.now() // 3600 * 3600 - 21 * DAY
        for hour in range(21 * 24):
            clients = {"client-001": Usage(60.0 + hour % 5, 0.0)}
            store.feed(Bucket(start + hour * 3600, 3600.0, clients), shared.now(), HOUR)
        shared.advance(3600 - shared.now() % 3600)
        script.cycle()
        for _ in range(120):
            log_in(shared, "client-001", "wrong")
        shared.advance(3600)
        outcome = script.cycle()
        shared.advance(300)
        later = script.cycle()
        shared.advance(2 * HOUR)
        over = script.cycle()
    reasons_found = {f.reason for f in outcome.findings if f.client == "client-001"}
    assert "failure_burst" in reasons_found
    assert figure(outcome, "credential_access_anomalies", reason="failure_burst") == 1
    assert ("security.credential_access_anomalies", "warning") in crossed(outcome)
    # it stays a finding for the window, so that the alert does not flap, and then is over
    assert "failure_burst" in {f.reason for f in later.findings}
    assert figure(later, "credential_access_anomalies", reason="failure_burst") == 0
    assert figure(later, "credential_access_anomalies_recent") == 1
    assert "failure_burst" not in {f.reason for f in over.findings}


def test_a_clock_that_was_ahead_for_one_look_does_not_blind_the_detector(tmp_path: Path) -> None:
    """One look a year ahead; then the clock is right again, and an attack comes."""
    found = []
    with State.open(tmp_path / "s") as state:
        store = AnomalyStore(state, Sensitivity())
        for number, bucket in enumerate(hours(24 * 20, burst=24 * 20 - 5)):
            if number == 24 * 20 - 10:
                ahead = replace(bucket, at=bucket.at + 365 * DAY)
                store.feed(ahead, ahead.at + 3600, 60)
                store = AnomalyStore(state, Sensitivity())
            found += [t.anomaly for t in store.feed(bucket, bucket.at + 3600, 60)]
    assert [a.reason for a in found] == ["failure_burst"]


def test_a_bucket_too_long_to_tell_hours_apart_is_a_gap(tmp_path: Path) -> None:
    with State.open(tmp_path / "s") as state:
        store = AnomalyStore(state, Sensitivity())
        assert store.feed(Bucket(NOW, 7 * 3600.0, {"c": Usage(9.0, 0.0)}), NOW, HOUR) == ()
        assert state.read("SELECT * FROM profiles") == []


# -- findings


def judged(facts: CredentialFacts, now: float = NOW, **policy: Any) -> ClientVerdict:
    own = replace(Policy(), **policy)
    return ClientVerdict(facts, judge(facts, own, now), own, bool(policy))


ENDED = RotationFacts(
    "r",
    "new_active",
    "v5",
    "v6",
    HOUR,
    NOW - 5 * HOUR,
    NOW - 2 * HOUR,
    deprecated_by=NOW - 3 * HOUR,
)
RULES = [
    (
        "tokens minted before the last rotation outlive it",
        judged(CredentialFacts("c", rotation=ENDED, tokens=TokenFacts(9, 2, NOW + 60))),
        "tokens_outlive_credential",
        "2 tokens minted before the last rotation still alive, the last until 2026",
    ),
    (
        "the old version in use after its end is a rotation half done",
        judged(CredentialFacts("c", rotation=ENDED, use=UseFacts(old_version_seen=NOW - HOUR))),
        "rotation_half_done",
        "the old version is still used",
    ),
    (
        "an annotation of 30 days and a version of 80",
        judged(
            CredentialFacts(
                "c",
                vault=VaultFacts(3, NOW + DAY, "x", 30 * DAY),
                ledger=LedgerFacts(NOW - 80 * DAY, NOW - 80 * DAY - 60),
                cached=CachedFacts(True, "v3", created_at=NOW - 80 * DAY),
            )
        ),
        "rotation_annotation_broken",
        "its annotation says 30 d and its version is 80 d old",
    ),
    (
        "a rotator that never ran",
        judged(CredentialFacts("c", vault=VaultFacts(1, None, "x", 30 * DAY, (None,)))),
        "rotator_never_ran",
        "never ran",
    ),
    (
        "a rotator that keeps failing",
        judged(CredentialFacts("c", vault=VaultFacts(2, NOW, "x", DAY, (NOW, NOW)))),
        "rotator_failing",
        "fails on each try",
    ),
    (
        "a stuck rotation",
        judged(
            CredentialFacts(
                "c", rotation=RotationFacts("r", "dual_active", None, None, HOUR, NOW - 5 * HOUR)
            )
        ),
        "rotation_stuck",
        "Ask the client whether it has its new secret",
    ),
    (
        "a failed rotation",
        judged(CredentialFacts("c", rotation=RotationFacts("r", "failed", message="no"))),
        "rotation_failed",
        "the rotation failed: no",
    ),
    (
        "two rotations at once",
        judged(
            CredentialFacts(
                "c",
                vault=VaultFacts(6),
                rotation=RotationFacts(
                    "r", "dual_active", "v5", "v6", HOUR, NOW - HOUR / 2, rivals=1
                ),
            )
        ),
        "rotation_unclear",
        "2 rotations of this client run at once",
    ),
    (
        "a minimum past the limit, which no threshold judges",
        judged(CredentialFacts("c", ledger=LedgerFacts(NOW - 95 * DAY, NOW - 95 * DAY))),
        "rotation_overdue",
        "at least 95 d old",
    ),
    (
        "overdue by a policy of its own, which no threshold judges",
        judged(
            CredentialFacts("c", cached=CachedFacts(True, "v1", created_at=NOW - 40 * DAY)),
            max_age=30 * DAY,
        ),
        "rotation_overdue",
        "the limit is 30 d",
    ),
]


@pytest.mark.parametrize(("sentence", "each", "reason", "said"), RULES, ids=[r[0] for r in RULES])
def test_findings(sentence: str, each: ClientVerdict, reason: str, said: str) -> None:
    found = {f.reason: f for f in findings([each], Window(), NOW)}
    assert reason in found, found
    assert said in f"{found[reason].sentence}. {found[reason].action}"
    assert found[reason].client == "c"
    assert found[reason].evidence["source"]


def test_a_finding_keeps_its_key_and_its_sources_whoever_tells_it() -> None:
    """The rotation service goes away, EAPI's cache says the same: that is one alert, not two."""
    stuck = RotationFacts("r", "dual_active", "v5", "v6", HOUR, NOW - 5 * HOUR)
    cached = CachedFacts(True, "v6", "dual_active", NOW - 5 * HOUR, NOW - 5 * HOUR)
    by_service = CredentialFacts("c", vault=VaultFacts(6, NOW + DAY), rotation=stuck, cached=cached)
    by_cache = replace(by_service, rotation=None, unavailable={ROTATIONS: "502"})
    both = [findings([judged(facts)], Window(), NOW) for facts in (by_service, by_cache)]
    keys = [[(f.reason, f.component, f.client, f.evidence) for f in found] for found in both]
    assert keys[0] == keys[1]
    assert keys[0][0][3]["sources"] == [ROTATIONS, CACHE]


USUAL, OFF, ONLY_CRITICAL = Limit(80.0, 90.0), Limit(None, None), Limit(None, 90.0)
TOLD = [
    ("the usual policy: the threshold says it", (90, 95), USUAL, None),
    ("and from 80 days on that it is due soon", (90, 78), USUAL, None),
    ("a stricter policy is past what the threshold sees", (30, 40), USUAL, "rotation_overdue"),
    ("and soon due before it", (30, 20), USUAL, "rotation_due_soon"),
    ("until the threshold sees it too", (30, 95), USUAL, None),
    ("no threshold at all", (90, 95), OFF, "rotation_overdue"),
    ("no warning by the threshold", (90, 80), ONLY_CRITICAL, "rotation_due_soon"),
    ("a young secret", (90, 10), OFF, None),
]


@pytest.mark.parametrize(("sentence", "policy_and_age", "ages", "reason"), TOLD)
def test_an_age_is_told_once(
    sentence: str, policy_and_age: tuple[float, float], ages: Limit, reason: Optional[str]
) -> None:
    days, old = policy_and_age
    facts = CredentialFacts("c", cached=CachedFacts(True, "v1", created_at=NOW - old * DAY))
    (each,) = judge_all([facts], replace(SETTINGS, rotation_days=days), NOW)
    found = [f.reason for f in findings([each], Window(), NOW, ages=ages)]
    assert found == ([reason] if reason else []), sentence


def test_a_client_with_days_of_its_own_is_warned_of_in_time() -> None:
    facts = CredentialFacts("c", cached=CachedFacts(True, "v1", created_at=NOW - 51 * DAY))
    settings = replace(SETTINGS, per_client_days={"c": 52.0})
    (each,) = judge_all([facts], settings, NOW)
    (found,) = findings([each], Window(), NOW, ages=USUAL)
    assert (found.reason, found.severity) == ("rotation_due_soon", Severity.WARNING)


def test_a_healthy_client_has_no_finding() -> None:
    facts = CredentialFacts(
        "c", rotation=ENDED, tokens=TokenFacts(9, 0), use=UseFacts(5.0, 0.0, NOW - 60)
    )
    assert findings([judged(facts)], Window(), NOW) == []


def test_hostile_client_ids_are_made_fit_in_every_sentence() -> None:
    bad = "c\x1b[31m\n|`=cmd"
    facts = CredentialFacts(bad, rotation=RotationFacts("r", "failed", message="a\r\nb\x07"))
    (finding,) = findings([judged(facts)], Window(), NOW)
    assert finding.sentence.isprintable()
    picture = CredentialSnapshot(
        NOW, [judged(facts)], Figures(Window(), {}, None), [], [Source("x", True)]
    )
    for form in credential_report.FORMATS:
        for text in (
            credential_report.rotations(seen(picture), form),
            credential_report.inventory(seen(picture), form),
        ):
            assert "\x1b" not in text
            assert "\x07" not in text


def test_what_our_identity_holds_is_told_once_per_privilege() -> None:
    found = of_vault([("execute", "a/b"), ("execute", "a/c"), ("update", "a/b")], [])
    assert [f.reason for f in found] == ["identity_holds_execute", "identity_holds_update"]
    assert {f.severity for f in found} == {Severity.CRITICAL}


# -- rows, bounds, policy


def test_a_row_is_as_the_design_says() -> None:
    facts = CredentialFacts(
        "c1",
        vault=VaultFacts(6),
        rotation=ENDED,
        tokens=TokenFacts(9, 2, NOW + 60),
        use=UseFacts(10.0, 1.0, last_used=NOW - 60),
    )
    told = row(judged(facts), NOW)
    assert {name: told[name] for name in list(told)[:17] if name != "why"} == {
        "verdict": "ok",
        "state": "active",
        "version": 6,
        "age_days": 0.21,
        "age_at_least": False,
        "age_source": "rotation_service",
        "rotated_at": "2026-11-22T22:00:00Z",
        "due_in_days": 89.79,
        "last_used": "2026-11-22T23:59:00Z",
        "last_used_at_most": False,
        "uses": 10,
        "uses_are": "attempts",
        "uses_at_least": False,
        "failures": 1,
        "failure_rate": 0.1,
        "live_tokens": 9,
        "old_version_tokens": 2,
    }


def test_a_minimum_is_shown_as_such_and_tells_no_due_date() -> None:
    facts = CredentialFacts("c1", ledger=LedgerFacts(NOW - 12 * DAY, NOW - 12 * DAY))
    each = judged(facts)
    assert row(each, NOW)["due_in_days"] is None
    assert row(each, NOW)["age_at_least"] is True
    assert credential_report.age_words(each, NOW) == "at least 12 d"


def test_a_minimum_is_not_exported_as_the_age() -> None:
    known = judged(CredentialFacts("known", cached=CachedFacts(True, created_at=NOW - 12 * DAY)))
    least = judged(CredentialFacts("least", ledger=LedgerFacts(NOW - 12 * DAY, NOW - 12 * DAY)))
    figures = measurements([known, least], Figures(Window(), {}, None), NOW)
    ages = [m for m in figures if m.name.endswith(("_age_seconds", "_due_seconds"))]
    assert [(m.labels["client_id"], m.value) for m in ages] == [
        ("known", 12 * DAY),
        ("known", 78 * DAY),
    ]


def test_policy_by_client_and_pattern() -> None:
    settings = replace(SETTINGS, per_client_days={"fast": 10.0}, excluded=("sandbox-*",))
    assert policy_of(settings, "fast").max_age == 10 * DAY
    assert policy_of(settings, "fast").due_soon == 5 * DAY  # not soon from its first day on
    assert policy_of(settings, "other").max_age == 90 * DAY
    assert policy_of(settings, "sandbox-7").excluded


def test_those_that_need_attention_come_first() -> None:
    def aged(name: str, days: float) -> CredentialFacts:
        return CredentialFacts(name, cached=CachedFacts(True, created_at=NOW - days * DAY))

    stuck = RotationFacts("r", "dual_active", None, "2", HOUR, NOW - 5 * HOUR)
    all_of = [
        *(aged("young", 1), aged("older", 60), aged("soon", 80), aged("late", 95)),
        CredentialFacts("unavailable"),
        CredentialFacts("runs", vault=VaultFacts(2), rotation=replace(stuck, started_at=NOW - 60)),
        replace(aged("fails", 2), use=UseFacts(9.0, 7.0)),
        replace(aged("slips", 3), use=UseFacts(9.0, 1.0)),
        CredentialFacts("stuck", rotation=stuck),
        CredentialFacts("failed", rotation=RotationFacts("r", "failed")),
    ]
    order = [each.client for each in judge_all(all_of, SETTINGS, NOW)]
    fine = ["fails", "runs", "older", "slips", "young"]
    assert order == ["failed", "stuck", "late", "soon", "unavailable", *fine]


def test_a_counter_never_falls_whatever_clients_do(tmp_path: Path) -> None:
    """Clients overtake each other, get into trouble and out of it, come and go."""
    totals: dict[str, Totals] = {}
    before: dict[Any, float] = {}
    with State.open(tmp_path / "s") as state:
        for day in range(12):
            names = [f"c{n}" for n in range(day % 3, 8 + day % 5)]
            for n, name in enumerate((*names, "")):
                old = totals.get(name, Totals())
                totals[name] = Totals(old.attempts + (n * day) % 7, old.failures + (n + day) % 3)
            clients = [CredentialFacts(name) for name in names]
            if day % 2:
                clients[-1] = CredentialFacts(names[-1], rotation=RotationFacts("r", "failed"))
            everybody = judge_all(clients, SETTINGS, NOW)
            shown = ShownClients(state).choose(names, totals, 3)
            assert len(shown) <= 3
            figures = Figures(Window(60.0), dict(totals), None, shown=shown)
            kept = bounded(
                measurements(everybody, figures, NOW), everybody, [], totals=totals, top=3
            )
            now = {
                (m.name, m.labels["client_id"]): m.value or 0.0
                for m in kept
                if m.name.endswith("_total")
            }
            assert all(now.get(key, 0.0) >= value for key, value in before.items()), day
            whole = sum(v for (name, _), v in now.items() if "failures" in name)
            assert whole == sum(total.failures for total in totals.values())
            before = now


def test_ids_that_look_alike_are_all_listed() -> None:
    names = ["c" * 70 + "1", "c" * 70 + "2", "c" * 70 + "3"]
    found = rows([judged(CredentialFacts(name)) for name in names], NOW)
    assert len(found) == 3
    assert all(len(name) <= 64 for name in found)


def test_per_client_figures_are_bounded_and_offenders_are_kept() -> None:
    everybody = [CredentialFacts(f"c{n:03d}", tokens=TokenFacts(1, 1)) for n in range(300)]
    everybody.append(CredentialFacts("z-late", rotation=RotationFacts("r", "failed")))
    all_judged = judge_all(everybody, SETTINGS, NOW)
    totals = {f"c{n:03d}": Totals(float(n), 1.0) for n in range(300)}
    window = Window(60.0, {f"c{n:03d}": Usage(0.0, 1.0) for n in range(300)})
    shown = frozenset(f"c{n:03d}" for n in range(250, 300))
    figures = measurements(all_judged, Figures(window, totals, None, shown=shown), NOW)
    kept = bounded(figures, all_judged, [], totals=totals, top=50)
    clients = {m.labels["client_id"] for m in kept if "client_id" in m.labels}
    assert clients == {*(f"c{n:03d}" for n in range(250, 300)), "z-late", "all", "other"}
    rest = {m.name: m.value for m in kept if m.labels.get("client_id") == "other"}
    assert rest["payment_api_authentication_failures_total"] == 250
    assert rest["payment_api_authentication_failures_recent"] == 250
    assert "payment_api_credential_age_seconds" not in rest


# -- reports


def picture_of(stack: Stack, tmp_path: Path) -> CredentialSnapshot:
    with State.open(tmp_path / "report") as state:
        watch = CredentialWatch(asked_of(stack, settings_of(stack, tmp_path)), state)
        return watch.look(stack.now(), all_rotations=True)


def test_reports_in_every_format(shared: Stack, tmp_path: Path) -> None:
    picture = picture_of(shared, tmp_path)
    document = json.loads(credential_report.inventory(seen(picture), "json"))
    assert set(document["credentials"]) == set(by_client(picture))
    assert set(document["sources"]) == {s.name for s in picture.sources}
    cells = list(csv.reader(io.StringIO(credential_report.inventory(seen(picture), "csv"))))
    assert len(cells) == 1 + len(picture.judged)
    assert {len(line) for line in cells} == {13}
    markdown = credential_report.rotations(seen(picture), "markdown").splitlines()
    # What needs a row has one below the head; day one is one sentence that names its clients.
    assert sum(line.startswith("| client |") for line in markdown) <= 1
    text = credential_report.rotations(seen(picture), "text")
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("client-")]
    clients = [each.client for each in picture.judged]
    assert rows == [client for client in clients if client in rows]
    assert all(client in text for client in clients)
    assert [line.split()[1] for line in markdown if line.startswith("| client-")] == rows
    assert set(reasons(picture)) <= {"credentials_from_before"}


EXITS = [
    ("all fine", ["ok"], [True], 0),
    ("due soon", ["ok", "due_soon"], [True], 1),
    ("overdue", ["overdue", "due_soon"], [True], 2),
    ("stuck", ["stuck"], [True], 2),
    ("not known", ["ok", "unknown"], [True], 1),
    ("a source failed", ["ok"], [True, False], 1),
    ("nothing could be read", ["unknown"], [False, False], 3),
]


@pytest.mark.parametrize(("sentence", "verdicts", "sound", "status"), EXITS)
def test_exit_status(sentence: str, verdicts: list[str], sound: list[bool], status: int) -> None:
    base = judged(CredentialFacts("c"))
    words = [replace(base.verdict, verdict=v, severity=SEVERITIES[v]) for v in verdicts]
    clients = [replace(base, verdict=verdict) for verdict in words]
    sources = [Source(str(n), ok) for n, ok in enumerate(sound)]
    picture = CredentialSnapshot(NOW, clients, Figures(Window(), {}, None), [], sources)
    assert outcome_of(picture, PLAIN).exit_status == status, sentence  # type: ignore[arg-type]


READ, FAILED, ABSENT = "read", "failed", "not configured"
CLIENTS = {
    "all in order": ["ok", "ok"],
    "one of unknown age": ["ok", "unknown"],
    "one overdue": ["ok", "overdue"],
    "nobody known": [],
}


@pytest.mark.parametrize("clients", CLIENTS)
def test_ok_stands_only_in_the_plain_rows(clients: str) -> None:
    """Every state of every source with every kind of client: the status is good only where each
    configured source was read, vault or rotation service among them, and all is in order."""
    base = judged(CredentialFacts("c"))
    words = [
        replace(base.verdict, verdict=v, severity=SEVERITIES[v], age=Age(NOW, "cache"))
        for v in CLIENTS[clients]
    ]
    known = [replace(base, verdict=verdict) for verdict in words]
    names = (VAULT, CACHE, ROTATIONS, EAPI, SAPI)
    for states in itertools.product((READ, FAILED, ABSENT), repeat=len(names)):
        of = dict(zip(names, states))
        why = {name: "" if state == READ else state for name, state in of.items()}
        rows = [Source(n, s == READ, configured=s != ABSENT) for n, s in of.items()]
        doubts = doubts_of(known, why[VAULT], why[ROTATIONS])
        picture = CredentialSnapshot(NOW, known, Figures(Window(), {}, None), [], rows, why, doubts)
        status = outcome_of(picture, PLAIN).status  # type: ignore[arg-type]
        register = READ in (of[VAULT], of[ROTATIONS])
        plain = FAILED not in states and register and clients == "all in order"
        assert (status is Severity.OK) == plain, (of, status)
        if READ in states and clients == "one overdue":
            assert status is Severity.CRITICAL, of
        elif not register or READ not in states:
            assert status is Severity.UNKNOWN, of


@pytest.mark.parametrize(
    ("complete", "seen", "shown"), [(True, 0, 0), (False, 0, None), (False, 3, 3)]
)
def test_no_token_in_a_scan_that_ended_early_is_not_none(
    complete: bool, seen: int, shown: Optional[int]
) -> None:
    each = judged(CredentialFacts("c", tokens=TokenFacts(seen, seen, complete=complete)))
    told = row(each, NOW)
    assert (told["live_tokens"], told["old_version_tokens"]) == (shown, shown)
    figures = measurements([each], Figures(Window(), {}, None), NOW)
    old = [f.value for f in figures if f.name == "payment_api_credential_old_version_tokens"]
    assert old == ([] if shown is None else [shown])


def test_counts_of_logins_say_what_they_are() -> None:
    """Attempts; lower bounds after a restart; and a last use that was then or earlier."""
    use = UseFacts(40.0, 3.0, at_least=True, last_used=NOW - 60, last_used_at_most=True)
    clients = [judged(CredentialFacts("c", vault=VaultFacts(1), use=use))]
    window = Window(seconds=HOUR, span=HOUR)
    picture = CredentialSnapshot(NOW, clients, Figures(window, {}, None), [], [Source("x", True)])
    text = INVENTORY(seen(picture), "text")
    assert " by 2026-11-2" in text
    assert "at least 40" in text
    assert "at least 3" in text
    assert text.endswith("uses: attempts to log in, refused ones included, in the last 1 h")
