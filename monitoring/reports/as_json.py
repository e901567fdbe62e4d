"""Present: the report as JSON: the Analysis, field for field, times as ISO 8601."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from monitoring.analysis import Analysis
from monitoring.redact import redacted, safe_id
from monitoring.report import plain_json
from monitoring.timestamps import iso_seconds

_TIMES = {"start", "end", "at", "low_at", "high_at", "first_seen", "last_seen"}


def render(analysis: Analysis) -> str:
    document = _named(dataclasses.asdict(analysis))
    document["meets_target"] = analysis.meets_target
    for client in document["clients"]:
        client["client"] = safe_id(client["client"])
    for side in ("joined", "left"):
        document[side] = [safe_id(client) for client in document[side]]
    plain = redacted(plain_json(document))
    return json.dumps(plain, ensure_ascii=False, indent=2) + "\n"


def _named(value: Any, name: str = "") -> Any:
    """Epoch seconds under a time's name become text; everything else stays."""
    if isinstance(value, dict):
        return {key: _named(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    if name in _TIMES and isinstance(value, (int, float)):
        return iso_seconds(value)
    return value
