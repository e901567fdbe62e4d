"""Rows: what the two other scripts read over HTTP fails: metrics pages, the rotation service, and
the Prometheus that lookbacks come from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Callable

from tests.faults.ground import Ground
from tests.faults.row import EAPI, Expect, Make, Row, classes
from tests.faults.servers import RawServer, bomb, gigabyte, http, politely, spread
from tests.faults.web import DEEP, HTML

TOKENS, CREDENTIALS = "token_usage_metrics", "credential_usage_metrics"
TEXT = "text/plain; version=0.0.4"
HALF = http(b"# TYPE x counter\nx_total 1\nx_to", Content_Type=TEXT)[:-2]

#: name -> what the server says, the class of a metrics page, of the rotation service
FAULTS: tuple[tuple[str, Any, str, str], ...] = (
    ("sends 1 GB", gigabyte, "too_large", "too_large"),
    ("sends a gzip bomb", politely(bomb()), "too_large", "too_large"),
    ("is a web page", politely(HTML), "body", "body"),
    ("is JSON 200,000 deep", politely(DEEP), "body", "body"),
    ("breaks off", politely(HALF), "body", "body"),
    ("drips", spread(http(b"x" * 1000)), "timeout", "timeout"),
    ("answers 401", politely(http(b"", "401 Unauthorized")), "auth", "auth"),
    ("answers 503", politely(http(b"", "503 Service Unavailable")), "http|busy", "http|busy"),
)


def serving(say: Any, point: Callable[[Ground, str], None]) -> Make:
    """A server that talks like `say`; `point` has the settings name its URL."""

    @contextlib.contextmanager
    def make(ground: Ground) -> Iterator[None]:
        ground.setting("TIMEOUTS", {EAPI: "1s"})
        with RawServer(say) as server:
            point(ground, server.url)
            yield

    return make


def metrics(ground: Ground, url: str) -> None:
    ground.setting("METRICS_URLS", {EAPI: [f"{url}/metrics"]})


def rotation(ground: Ground, url: str) -> None:
    ground.env["ROTATION_ENDPOINT"] = url


def dark(name: str, kinds: str, *scripts: str) -> Any:
    """The source is named, everything else was looked at."""
    return {script: Expect({name: classes(kinds)}, (1,)) for script in scripts}


def lookback(url: str, said: str) -> Callable[[Ground], str]:
    """The history cannot be read: no report, exit 3, and a sentence that says why."""

    def play(ground: Ground) -> str:
        ground.env["PROMETHEUS_URL"] = url
        for script, word in (("health_check", "--sla"), (TOKENS, "--analyze")):
            run = ground.run(script, word)
            run.check_form()
            assert run.status == 3, run.said()
            assert said in run.said(), run.said()
        return f"exit 3 twice, {said!r}"

    return play


def lookback_at(say: Any, said: str) -> Callable[[Ground], str]:
    def play(ground: Ground) -> str:
        with RawServer(say) as server:
            return lookback(server.url, said)(ground)

    return play


def _rows() -> list[Row]:
    rows = []
    for name, say, page, rotations in FAULTS:
        rows += [
            Row(
                f"metrics page {name}",
                serving(say, metrics),
                dark("eapi-metrics", page, TOKENS, CREDENTIALS),
            ),
            Row(
                f"rotation service {name}",
                serving(say, rotation),
                dark("rotation-service", rotations, CREDENTIALS),
            ),
        ]
    return rows


ROWS = tuple(
    replace(row, group="sources", options=replace(row.options, preload=5))
    for row in (
        *_rows(),
        Row("history: Prometheus refuses", play=lookback("http://127.0.0.1:1", "refused")),
        Row("history: Prometheus is a web page", play=lookback_at(politely(HTML), "not JSON")),
        Row(
            "history: Prometheus answers 503",
            play=lookback_at(politely(http(b"", "503 Service Unavailable")), "503"),
        ),
    )
)
