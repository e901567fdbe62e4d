"""The canary's forgeries are in no count of failures, and nobody else's failures are taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.services.counters import CounterKey, Delta
from monitoring.services.families import Growth
from monitoring.services.memory import CanaryLog, refused
from monitoring.store.state import State
from monitoring.tokens.services import without


def key(client: str, valid: str = "false", name: str = "token_validation") -> CounterKey:
    labels = tuple(sorted({"client": client, "valid": valid}.items()))
    return CounterKey("sapi", name, labels, "")


def growth(**failures: float) -> Growth:
    values = {key(client): count for client, count in failures.items()}
    values[key("client-001", "true")] = 90.0
    return Growth({k: Delta(n, 60.0, False) for k, n in values.items()}, values)


@pytest.mark.parametrize(
    ("failures", "forged", "left"),
    [
        ({"unknown": 3.0}, 3, {"unknown": 0.0}),
        ({"unknown": 5.0}, 3, {"unknown": 2.0}),  # two real ones remain
        ({"unknown": 1.0}, 3, {"unknown": 0.0}),  # never below zero
        ({"client-002": 3.0}, 3, {"client-002": 3.0}),  # a known client's are its own
        # a service that knows whose they were counts them under the canary's id
        ({"canary": 3.0, "unknown": 2.0}, 3, {"canary": 3.0, "unknown": 2.0}),
        ({"canary": 1.0, "unknown": 4.0}, 3, {"canary": 1.0, "unknown": 2.0}),
    ],
)
def test_only_the_forgeries_are_taken_out(
    failures: dict[str, float], forged: int, left: dict[str, float]
) -> None:
    found = without(growth(**failures), ever=forged, since=forged, canary={"canary"})
    for client, count in left.items():
        assert found.totals[key(client)] == count
        assert found.deltas[key(client)].increase == count
    assert found.totals[key("client-001", "true")] == 90.0


def test_the_log_grows_and_each_script_has_its_own_look(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        log = CanaryLog(state, "prod")
        log.note(3)
        assert log.since_last_look("token_usage_metrics") == 0  # what was before is not news
        log.note(2)
        assert log.since_last_look("token_usage_metrics") == 2
        assert log.since_last_look("token_usage_metrics") == 0
        assert log.since_last_look("credential_usage_metrics") == 0
        assert log.total() == 5
        assert CanaryLog(state, "dev").total() == 0


@pytest.mark.parametrize(
    ("proofs", "count"),
    [
        ({}, 0),
        ({"tampered": {"accepted": False}, "wrong_secret": {"accepted": False}}, 1),
        ({"tampered": {"accepted": True}, "alg_none": {"accepted": None}}, 0),
    ],
)
def test_only_refused_tokens_count(proofs: dict[str, dict[str, object]], count: int) -> None:
    assert refused(proofs) == count
