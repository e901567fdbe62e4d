from __future__ import annotations

from pathlib import Path

import pytest

from monitoring.store.state import State
from monitoring.tokens.memory import VerdictMemory

NOW = 1795402000.0


def test_failures_add_up_and_none_counts_twice(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        memory = VerdictMemory(state, "token_usage_metrics")
        assert memory.add(NOW, {"expired": 4}) == {"expired": 4}
        # 25 s later the same four verdicts still lie there, and one more
        found = memory.add(NOW + 25, {"expired": 5})
        assert found == {"expired": pytest.approx(5.25)}
        again = VerdictMemory(state, "token_usage_metrics").add(NOW + 325, {"revoked": 2})
        assert again == {"expired": pytest.approx(5.25), "revoked": 2}


def test_a_closed_state_costs_the_memory_only(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.close()
    assert VerdictMemory(state, "token_usage_metrics").add(NOW, {"expired": 4}) == {"expired": 4}
