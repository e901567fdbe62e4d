from __future__ import annotations

from typing import Any

import pytest

from monitoring.services.counters import CounterKey, Delta
from monitoring.services.families import Growth, Window
from monitoring.tokens.services import Validations, figures, increases


def key(name: str, **labels: str) -> CounterKey:
    return CounterKey("eapi", name, tuple(sorted(labels.items())), "")


def growth(*rows: tuple[CounterKey, float, float]) -> Growth:
    """Rows of key, total, increase."""
    return Growth({k: Delta(n, 60.0) for k, _, n in rows}, {k: t for k, t, _ in rows})


MICROMETER = growth(
    (key("token_generation", client="a"), 100.0, 5.0),
    (key("token_generation", client="canary"), 40.0, 2.0),
    (key("token_validation", client="a", valid="true", reason=""), 300.0, 12.0),
    (key("token_validation", client="a", valid="false", reason=""), 7.0, 1.0),
    (key("token_validation", client="canary", valid="false", reason=""), 9.0, 3.0),
)
ALTERNATIVE = growth(
    (key("token_validation", client="", valid="true", reason=""), 300.0, 10.0),
    (key("token_validation", client="", valid="false", reason="Expired"), 6.0, 1.0),
    (key("token_validation", client="", valid="false", reason="revoked"), 4.0, 3.0),
)


@pytest.mark.parametrize(
    ("counted", "wanted"),
    [
        (MICROMETER, {"generated": 5, "valid": 12, "invalid:unspecified": 1}),
        (ALTERNATIVE, {"valid": 10, "invalid:expired": 1, "invalid:revoked": 3}),
        (Growth(), {}),
    ],
)
def test_increases_by_family_without_the_canary(counted: Growth, wanted: dict[str, Any]) -> None:
    assert increases(counted, {"canary"}) == wanted


def test_totals_and_the_window_stand_apart() -> None:
    window = Window(120.0, {"generated": 10.0, "valid": 24.0, "invalid:expired": 6.0})
    found = figures(MICROMETER, window, {"canary"})
    assert found.generated == 100
    assert found.generation_rate == pytest.approx(5.0)
    assert found.validations == Validations(300.0, {"unspecified": 7.0}, "services")
    assert found.recent_validations is not None
    assert found.recent_validations.success_rate == pytest.approx(0.8)
    assert found.recent_validations.seconds == 120.0


def test_what_nobody_counts_is_unknown_and_not_nought() -> None:
    found = figures(Growth(), Window(), set())
    assert (found.generated, found.validations, found.generation_rate) == (None, None, None)
    first_look = figures(Growth({}, MICROMETER.totals), Window(), set())
    assert first_look.generated == 140
    assert first_look.generation_rate is None
    assert first_look.recent_validations is None


def test_reasons_are_bounded() -> None:
    words = ["EXPIRED", "", "mine", *(f"r{n}" for n in range(97))]
    rows = [(key("token_validation", valid="false", reason=word), 1.0, 1.0) for word in words]
    found = figures(growth(*rows), Window(), set(), ("expired", "mine"))
    assert found.validations is not None
    assert found.validations.by_reason == {"expired": 1, "unspecified": 1, "mine": 1, "other": 97}
