"""The log as a channel."""

from __future__ import annotations

import logging

import pytest

from monitoring.channels import log
from monitoring.channels.base import Kit
from tests.alerting_kit import WARNING, alert, notice


def test_a_line_per_notice_with_ecs_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = [notice(), notice(severity=WARNING, also=(alert(client="c1"),)), notice("resolved")]
    log.send(told, Kit({}))
    lines = [r for r in caplog.records if r.getMessage().startswith("alert: ")]
    assert [r.levelname for r in lines] == ["CRITICAL", "WARNING", "INFO"]
    fields = lines[0].fields  # type: ignore[attr-defined]
    assert fields["event.kind"] == "alert"
    assert fields["payment_api.alert.key"] == "test/health_check/redis-cache/health_status/"
    assert "c1" in lines[1].fields["payment_api.alert.members"][0]  # type: ignore[attr-defined]
