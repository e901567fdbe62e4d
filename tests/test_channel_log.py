"""The log as a channel."""

from __future__ import annotations

import logging

import pytest

from monitoring.channels import log
from monitoring.channels.base import ChannelContext
from monitoring.text import iso
from tests.alerting_kit import T0, WARNING, alert, notice


def test_a_line_per_notice_with_ecs_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = [
        notice(value=7.5, threshold=5.0),
        notice(severity=WARNING, also=(alert(client="c1"),)),
        notice("resolved"),
    ]
    log.send(told, ChannelContext({}))
    lines = [r for r in caplog.records if r.getMessage().startswith("alert: ")]
    assert [r.levelname for r in lines] == ["CRITICAL", "WARNING", "INFO"]
    fields = lines[0].fields  # type: ignore[attr-defined]
    assert fields["event.kind"] == "alert"
    assert fields["payment_api.alert.key"] == "test/health_check/redis-cache/health_status/"
    assert (fields["payment_api.value"], fields["payment_api.limit"]) == (7.5, 5.0)
    assert fields["event.id"] == f"health_check-{T0:.3f}"
    assert (fields["event.category"], fields["event.type"]) == (["host"], ["info"])
    assert fields["event.start"] == iso(T0 - 120)
    assert "event.end" not in fields
    over = lines[2].fields  # type: ignore[attr-defined]
    assert over["event.end"] == iso(T0)
    assert "payment_api.value" not in over, "what is over has no value now"
    assert "c1" in lines[1].fields["payment_api.alert.members"][0]  # type: ignore[attr-defined]
