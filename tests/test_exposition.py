"""The metrics page: what it says, what it never says, and that a scrape is always quick."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import logging
import math
import select
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Optional

import pytest
from prometheus_client.parser import text_string_to_metric_families

from monitoring.catalog import METRICS
from monitoring.model import (
    FLAPPING,
    Alert,
    AlertKey,
    AlertRow,
    Component,
    Finding,
    Measurement,
    Outcome,
    Severity,
    Source,
)
from monitoring.output import exposition
from monitoring.output.exposition import Exporter, render
from monitoring.output.server import (
    DEFAULT_ADDRESS,
    HttpAnswer,
    MetricsServer,
    ServeError,
    accepts_gzip,
)

MS = "payment_api_response_time_ms"
RATE = "payment_api_client_token_generation_rate"
AGE = "payment_api_credential_age_seconds"
DUE = "payment_api_credential_due_seconds"
FAILURES = "payment_api_authentication_failures_total"


class Sent(NamedTuple):
    channel: str
    outcome: str


def outcome(*measurements: Measurement, **more: Any) -> Outcome:
    more.setdefault("components", (Component("redis-cache", Severity.OK, True),))
    return Outcome(
        "health_check", "test", "1.0.0", 1700000000.0, 0.5, measurements=measurements, **more
    )


def ms(component: str, value: Optional[float]) -> Measurement:
    return Measurement(MS, value, {"component": component})


def of_client(name: str, client: str, value: float) -> Measurement:
    return Measurement(name, value, {"client_id": client})


def samples(page: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """name -> labels -> value; fails on a sample that is there twice."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), sample
            found[sample.name][labels] = sample.value
    return found


def by(name: str, label: str, page: bytes) -> dict[str, float]:
    return {dict(labels)[label]: value for labels, value in samples(page).get(name, {}).items()}


def page_of(exporter: Exporter) -> bytes:
    return exporter.answer("/metrics", {}).body


# -- render


def test_the_whole_page_of_a_small_cycle() -> None:
    assert render(outcome(ms("redis-cache", 1.5), ms("conjur-vault", None))).decode() == (
        "# HELP payment_api_alerts Alerts by severity and state.\n"
        "# TYPE payment_api_alerts gauge\n"
        + "".join(
            'payment_api_alerts{script="health_check",'
            f'severity="{severity}",state="{state}"}} 0.0\n'
            for severity in ("critical", "warning")
            for state in ("firing", "pending", "resolved", "silenced", "suppressed")
        )
        + "# HELP payment_api_build_info Version of the monitor; always 1.\n"
        "# TYPE payment_api_build_info gauge\n"
        'payment_api_build_info{script="health_check",version="1.0.0"} 1.0\n'
        "# HELP payment_api_component_degraded 1 if the component is up and not well, for a"
        " reason that no other figure says.\n"
        "# TYPE payment_api_component_degraded gauge\n"
        'payment_api_component_degraded{component="redis-cache"} 0.0\n'
        "# HELP payment_api_cycle_duration_seconds Duration of the last finished cycle.\n"
        "# TYPE payment_api_cycle_duration_seconds gauge\n"
        'payment_api_cycle_duration_seconds{script="health_check"} 0.5\n'
        "# HELP payment_api_last_cycle_timestamp_seconds End of the last finished cycle.\n"
        "# TYPE payment_api_last_cycle_timestamp_seconds gauge\n"
        'payment_api_last_cycle_timestamp_seconds{script="health_check"} 1.7000000005e+09\n'
        "# HELP payment_api_response_time_ms Response time in milliseconds.\n"
        "# TYPE payment_api_response_time_ms gauge\n"
        'payment_api_response_time_ms{component="redis-cache"} 1.5\n'
        "# HELP payment_api_status Last cycle: 0 ok, 1 unknown, 2 warning, 3 critical.\n"
        "# TYPE payment_api_status gauge\n"
        'payment_api_status{script="health_check"} 0.0\n'
    )


def test_what_the_outcome_says_about_itself() -> None:
    key = AlertKey("test", "health_check", "redis-cache", "health_status")
    alert = Alert(key, Severity.CRITICAL, "down")
    found = Finding("no_ttl", Severity.WARNING, "Tokens never die.", "redis-cache")
    page = render(
        outcome(
            sources=(
                Source("redis", True),
                Source("eapi", False),
                Source("conjur", False, configured=False),
            ),
            findings=(found, replace(found, client="c1")),
            alerts=(AlertRow(alert, "firing"), AlertRow(alert, "pending")),
        )
    )
    assert by("payment_api_up", "source", page) == {"redis": 1.0, "eapi": 0.0}
    assert by("payment_api_findings", "client_id", page) == {"": 1.0, "c1": 1.0}
    assert by("payment_api_findings", "component", page) == {"redis-cache": 1.0}
    assert by("payment_api_status", "script", page) == {"health_check": 2.0}
    alerts, ours = samples(page)["payment_api_alerts"], ("script", "health_check")
    assert alerts[ours, ("severity", "critical"), ("state", "firing")] == 1.0
    assert alerts[ours, ("severity", "warning"), ("state", "firing")] == 0.0


def test_only_what_is_held_as_flapping_is_named_so() -> None:
    rows = [
        AlertRow(Alert(AlertKey("test", "health_check", "redis-cache", metric, client),
                       Severity.WARNING, "x"), "firing", None, why)
        for metric, client, why in (
            ("clock_skew", "", FLAPPING), ("failure_burst", "c1", FLAPPING), ("silence", "", ""),
        )
    ]  # fmt: skip
    page = samples(render(outcome(alerts=tuple(rows))))
    where, script = ("component", "redis-cache"), ("script", "health_check")
    assert dict(page["payment_api_alert_flapping"]) == {
        (("alert", "PaymentApiClockSkew"), ("client_id", ""), where, script): 1.0,
        (("alert", "PaymentApiFailureBurst"), ("client_id", "c1"), where, script): 1.0,
    }


@pytest.mark.parametrize("value", [None, math.nan])
def test_unknown_values_are_left_out(value: Optional[float]) -> None:
    assert MS not in samples(render(outcome(ms("redis-cache", value))))


def test_the_order_of_measurements_does_not_matter() -> None:
    some = [ms("a", 1.0), ms("b", 2.0), of_client(RATE, "x", 1.0), of_client(RATE, "w", 1.0)]
    assert render(outcome(*some)) == render(outcome(*reversed(some)))


def test_a_repeated_measurement_is_one_sample() -> None:
    assert by(MS, "component", render(outcome(ms("a", 1.0), ms("a", 2.0)))) == {"a": 2.0}


@pytest.mark.parametrize(
    "wrong",
    [
        Measurement("payment_api_no_such_thing", 1.0),
        Measurement("payment_api_no_such_thing", None),
        Measurement("payment_api_response_time_seconds", 1.0, {"component": "a"}),
        Measurement(MS, 1.0, {"component": "a", "pod": "b"}),
        Measurement(MS, 1.0),
    ],
)
def test_what_the_catalogue_does_not_have_is_an_error(wrong: Measurement) -> None:
    with pytest.raises(ValueError, match=wrong.name):
        render(outcome(wrong))


def test_every_metric_of_the_catalogue_renders() -> None:
    many = [
        Measurement(metric.name, 1.0, dict.fromkeys(metric.labels, "x"))
        for metric in METRICS.values()
        if metric.kind != "histogram"
    ]
    found = samples(render(outcome(*many)))
    assert set(found) == {m.name for m in many}
    assert not [name for name in found if name.endswith("_created")]


# -- labels and clients


@pytest.mark.parametrize(
    "evil",
    ['a"b\\c\nd', "\x1b[31mred\x00", "\ud800", "e" * 5000, 'x"} 1\npayment_api_up{source="y', "ü☃"],
)
def test_hostile_label_values_stay_values(evil: str) -> None:
    page = render(outcome(of_client(RATE, evil, 4.0)))
    ((client, value),) = by(RATE, "client_id", page).items()
    assert value == 4.0
    assert client.isprintable()
    assert len(client) <= 64
    assert "payment_api_up" not in samples(page)


def test_no_token_gets_into_a_label() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiJzZWNyZXQifQ.c2lnbmF0dXJl"
    assert token.encode() not in render(outcome(of_client(RATE, token, 1.0)))


def test_clients_are_bounded_and_the_rest_is_summed() -> None:
    rates = [of_client(RATE, f"c{n:03}", float(n)) for n in range(500)]
    rest = sum(range(497))
    whole = of_client(RATE, "all", 497.0 + 498 + 499 + rest + 7)  # 7 named no client
    page = render(outcome(*rates, whole, top_clients=3))
    assert by(RATE, "client_id", page) == {
        "c499": 499.0,
        "c498": 498.0,
        "c497": 497.0,
        "other": float(rest),
        "(none)": 7.0,
    }


@pytest.mark.parametrize(
    ("parts", "whole", "shown"),
    [
        ({}, 0.0, {"(none)": 0.0}),
        ({}, 5.0, {"(none)": 5.0}),
        ({"c": 5.0}, 5.0, {"c": 5.0}),
        ({"c": 5.0}, 5.4, {"c": 5.0}),
        ({"c": 5.0}, 5.5, {"c": 5.0, "(none)": 0.5}),
        ({"c": 5.0}, 3.0, {"c": 5.0}),
    ],
)
def test_no_sum_stands_among_its_parts(
    parts: dict[str, float], whole: float, shown: dict[str, float]
) -> None:
    rates = [of_client(RATE, name, value) for name, value in parts.items()]
    page = render(outcome(*rates, of_client(RATE, "all", whole)))
    assert by(RATE, "client_id", page) == shown


def test_times_stand_beside_ages() -> None:
    """An age stands still between two cycles."""
    page = render(outcome(of_client(AGE, "c", 100.0), of_client(DUE, "c", -50.0)))
    rotated = "payment_api_credential_rotated_timestamp_seconds"
    due = "payment_api_credential_due_timestamp_seconds"
    assert by(rotated, "client_id", page) == {"c": 1_700_000_000.0 - 100}
    assert by(due, "client_id", page) == {"c": 1_700_000_000.0 - 50}


def test_known_clients_come_before_strangers() -> None:
    rates = [of_client(RATE, f"flood-{n}", 1e6) for n in range(9)] + [of_client(RATE, "ours", 1.0)]
    page = render(outcome(*rates, credentials={"ours": {}}, top_clients=1))
    assert by(RATE, "client_id", page) == {"ours": 1.0, "other": 9e6}


def test_what_cannot_be_summed_is_left_out() -> None:
    ages = [of_client(AGE, f"c{n}", float(n)) for n in range(5)]
    due = [of_client(DUE, f"c{n}", float(n)) for n in range(5)]
    page = render(outcome(*ages, *due, top_clients=2))
    assert by(AGE, "client_id", page) == {"c4": 4.0, "c3": 3.0}
    assert by(DUE, "client_id", page) == {"c0": 0.0, "c1": 1.0}  # the most urgent


def test_other_of_a_counter_never_falls() -> None:
    """It would read as a reset: clients shown once keep their place."""
    exporter = Exporter("health_check")
    counts = {"a": 10.0, "b": 20.0, "c": 1.0, "d": 2.0}
    others = []
    for grown in ("c", "d", "c", "a"):
        counts[grown] += 50
        figures = (of_client(FAILURES, c, v) for c, v in counts.items())
        exporter.publish(outcome(*figures, top_clients=2))
        found = by(FAILURES, "client_id", page_of(exporter))
        assert set(found) == {"b", "c", "other"}
        others.append(found["other"])
    assert others == sorted(others)


# -- the exporter


def test_the_page_is_of_the_last_cycle_alone() -> None:
    exporter = Exporter("health_check")
    exporter.publish(outcome(ms("a", 1.0), sources=(Source("x", False),)))
    exporter.publish(outcome(ms("b", 2.0)))
    assert by(MS, "component", page_of(exporter)) == {"b": 2.0}
    assert "payment_api_up" not in samples(page_of(exporter))


def test_counters_and_histogram_add_up() -> None:
    exporter = Exporter("health_check")
    before = by("payment_api_cycles_total", "status", page_of(exporter))
    assert before == {"ok": 0.0, "unknown": 0.0, "warning": 0.0, "critical": 0.0}
    exporter.publish(outcome(ms("a", 40.0)), [Sent("slack", "sent"), Sent("email", "failed")])
    exporter.publish(outcome(ms("a", 300.0), ms("b", None)), [Sent("slack", "sent")])
    exporter.publish(outcome(ms("a", 99999.0), components=()))
    page = page_of(exporter)
    cycles = by("payment_api_cycles_total", "status", page)
    assert cycles == {"ok": 2.0, "unknown": 1.0, "warning": 0.0, "critical": 0.0}
    sent = {"slack": 2.0, "email": 1.0}
    assert by("payment_api_notifications_total", "channel", page) == sent
    buckets = by("payment_api_response_time_seconds_bucket", "le", page)
    figures = {"0.025": 0, "0.05": 1, "0.2": 1, "0.3": 2, "10.0": 2, "+Inf": 3}
    assert {le: buckets[le] for le in figures} == figures
    assert by("payment_api_response_time_seconds_count", "component", page) == {"a": 3.0}
    total = by("payment_api_response_time_seconds_sum", "component", page)
    assert total == {"a": pytest.approx(100.339)}


def test_a_page_that_cannot_be_made_leaves_the_old_one() -> None:
    exporter = Exporter("health_check")
    exporter.publish(outcome(ms("a", 1.0)))
    with pytest.raises(ValueError, match="payment_api_nope"):
        exporter.publish(outcome(Measurement("payment_api_nope", 1.0)))
    assert by(MS, "component", page_of(exporter)) == {"a": 1.0}


def test_deliveries_are_counted_from_nought_so_that_increase_sees_the_first() -> None:
    exporter = Exporter("health_check", attempts=[("slack", "sent"), ("slack", "failed")])
    name = "payment_api_notifications_total"
    first = exporter.answer("/metrics", {}).body.decode()
    assert f'{name}{{channel="slack",outcome="failed",script="health_check"}} 0.0' in first
    assert f'{name}{{channel="slack",outcome="sent",script="health_check"}} 0.0' in first


def test_healthy_until_a_cycle_is_overdue() -> None:
    now = [0.0]
    exporter = Exporter("health_check", interval=60, deadline=30, ticks=lambda: now[0])
    steps = [(210.0, 200), (210.1, 503)]  # three intervals and the deadline, also for the first
    for at, status in steps:
        now[0] = at
        assert exporter.answer("/-/healthy", {}).status == status
    exporter.publish(outcome())
    assert exporter.answer("/-/healthy", {}).status == 200
    now[0] = 500.0
    late = exporter.answer("/-/healthy", {})
    assert (late.status, late.body) == (503, b"last cycle ended 290 s ago, overdue after 210 s\n")


# -- over HTTP


class Got(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


@pytest.fixture
def exporter() -> Exporter:
    made = Exporter("health_check")
    made.publish(outcome(ms("redis-cache", 1.5)))
    return made


@pytest.fixture
def server(exporter: Exporter) -> Iterator[MetricsServer]:
    running = exporter.serve("127.0.0.1", 0)
    yield running
    running.close()


def ask(server: MetricsServer, path: str, method: str = "GET", **headers: str) -> Got:
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        link.request(method, path, headers=headers)
        reply = link.getresponse()
        names = {name.lower(): value for name, value in reply.getheaders()}
        return Got(reply.status, names, reply.read())
    finally:
        link.close()


@pytest.mark.parametrize(
    ("path", "status", "starts"),
    [
        ("/metrics", 200, b"# HELP"),
        ("/metrics?name[]=up", 200, b"# HELP"),
        ("/-/healthy", 200, b"last cycle ended"),
        ("/", 200, b"<!doctype html>"),
        ("/metrics/", 404, b"Not here"),
        ("/../etc/passwd", 404, b"Not here"),
    ],
)
def test_paths(server: MetricsServer, path: str, status: int, starts: bytes) -> None:
    got = ask(server, path)
    assert got.status == status
    assert got.body.startswith(starts)
    assert got.headers["content-length"] == str(len(got.body))
    head = ask(server, path, "HEAD")
    assert (head.status, head.body) == (status, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert "Python" not in got.headers["server"]


def test_content_type_and_gzip(server: MetricsServer, exporter: Exporter) -> None:
    plain = ask(server, "/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "content-encoding" not in plain.headers
    assert plain.body == page_of(exporter)
    packed = ask(server, "/metrics", **{"Accept-Encoding": "deflate, gzip;q=0.8"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, GZIP ; q=1.0", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=0.1", True),
        ("*", True),
        ("*;q=0", False),
        ("identity", False),
        ("gzip;q=0, *", False),
    ],
)
def test_accepts_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


@pytest.mark.parametrize(("method", "status"), [("POST", 501), ("DELETE", 501), ("FOO", 501)])
def test_other_methods_are_refused(server: MetricsServer, method: str, status: int) -> None:
    assert ask(server, "/metrics", method).status == status


def test_a_busy_port_is_one_clear_sentence(server: MetricsServer, exporter: Exporter) -> None:
    with pytest.raises(ServeError) as caught:
        exporter.serve("127.0.0.1", server.port)
    text = str(caught.value)
    assert f"127.0.0.1:{server.port}" in text
    assert "in use" in text
    assert "--prometheus-port" in text
    assert "\n" not in text


@pytest.mark.parametrize("address", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours(exporter: Exporter, address: str) -> None:
    with pytest.raises(ServeError, match="--prometheus-address"):
        exporter.serve(address, 0)


def test_addresses(exporter: Exporter) -> None:
    for address, target in ((DEFAULT_ADDRESS, "127.0.0.1"), ("::1", "::1")):
        try:
            running = exporter.serve(address, 0)
        except ServeError:
            assert address == "::1"  # a machine without IPv6
            continue
        socket.create_connection((target, running.port), timeout=30).close()
        running.close()


def test_after_close_the_port_is_free_and_nobody_listens(exporter: Exporter) -> None:
    first = exporter.serve("127.0.0.1", 0)
    silent = socket.create_connection(("127.0.0.1", first.port))  # asks nothing, holds the line
    assert ask(first, "/metrics").status == 200
    first.close()
    second = exporter.serve("127.0.0.1", first.port)
    assert ask(second, "/metrics").status == 200
    second.close()
    silent.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first.port))


def test_clients_that_hold_or_break_the_line_harm_nobody(
    server: MetricsServer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for link in idle[:10]:
        link.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")
    rude = socket.create_connection(("127.0.0.1", server.port))
    rude.sendall(b"\x16\x03\x01\x00garbage\r\n\r\n")
    rude.close()
    assert ask(server, "/metrics").status == 200
    for link in idle:
        link.close()
    assert capsys.readouterr() == ("", "")
    assert [r for r in caplog.records if r.levelno > logging.DEBUG] == []


def test_a_flood_of_connections_is_bounded(server: MetricsServer) -> None:
    flood = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(150)]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        served = [t for t in threading.enumerate() if "process_request_thread" in t.name]
        refused = [link for link in flood if _is_closed(link)]
        if len(refused) >= 80 and len(served) <= 64 + 2:  # threads end a moment after a hang-up
            break
    assert len(refused) >= 80
    assert len(served) <= 64 + 2
    for link in flood:
        link.close()


def _is_closed(link: socket.socket) -> bool:
    link.setblocking(False)
    try:
        return link.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def big_outcome(clients: int) -> Outcome:
    names = [RATE, AGE, FAILURES, DUE, "payment_api_client_tokens_active"]
    many = [of_client(name, f"client-{n:05}", float(n)) for n in range(clients) for name in names]
    return outcome(*many, *(ms(f"part-{n}", 1.0) for n in range(5)), top_clients=clients)


def test_a_scrape_does_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a cycle is busy with, a scrape hands out bytes that are ready."""
    exporter = Exporter("health_check")
    exporter.publish(big_outcome(500))
    monkeypatch.setattr(exposition, "generate_latest", lambda _: pytest.fail("rendered"))
    with exporter.serve("127.0.0.1", 0) as running:
        bodies = {ask(running, "/metrics").body for _ in range(20)}
    assert len(bodies) == 1
    assert len(by(RATE, "client_id", bodies.pop())) == 500


def test_scrapes_while_cycles_end_are_whole_pages() -> None:
    exporter = Exporter("health_check")
    exporter.publish(outcome(ms("part-0", 0.0)))
    stop = threading.Event()

    def cycles() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            exporter.publish(outcome(*(ms(f"part-{n}", float(turn)) for n in range(50))))

    worker = threading.Thread(target=cycles)
    with exporter.serve("127.0.0.1", 0) as running:
        worker.start()
        for _ in range(50):
            values = set(by(MS, "component", ask(running, "/metrics").body).values())
            assert len(values) == 1  # never half of one cycle and half of the next
        stop.set()
        worker.join()


@pytest.mark.prometheus
def test_promtool_finds_nothing_but_the_names_of_the_brief() -> None:
    tool = shutil.which("promtool")
    if not tool:
        pytest.skip("promtool is not on PATH (apt install prometheus)")
    exporter = Exporter("health_check")
    many = [
        Measurement(metric.name, 1.0, dict.fromkeys(metric.labels, "x"))
        for metric in METRICS.values()
        if metric.kind != "histogram"
    ]
    exporter.publish(outcome(*many), [Sent("slack", "sent")])
    done = subprocess.run(
        [tool, "check", "metrics"], input=page_of(exporter), capture_output=True, check=False
    )
    lines = (done.stdout + done.stderr).decode().splitlines()
    complaints = [line for line in lines if not line.startswith(MS)]
    assert complaints == []


# -- strangers at the port


def _slow(port: int) -> socket.socket:
    """A connection that has sent the beginning of a request."""
    wire = socket.create_connection(("127.0.0.1", port), timeout=10)
    wire.sendall(b"GET /metrics HTT")
    return wire


def _status(port: int, path: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
        answer.read()
        return int(answer.status)


@pytest.mark.parametrize("count", [64, 600])
def test_slow_connections_refuse_no_scrape(count: int) -> None:
    with contextlib.ExitStack() as stack:
        exporter = Exporter("health_check", interval=60)
        server = stack.enter_context(exporter.serve("127.0.0.1", 0))
        exporter.publish(outcome(), ())
        slow = [stack.enter_context(contextlib.closing(_slow(server.port))) for _ in range(count)]
        for _ in range(6):
            assert _status(server.port, "/metrics") == 200
            assert _status(server.port, "/-/healthy") == 200
        assert slow[0].recv(1) == b"", "the oldest has given way"


def test_a_connection_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever drips in: the time of a whole connection is bounded, not that of a byte."""
    monkeypatch.setattr("monitoring.output.server._WHOLE", 0.3)
    with (
        MetricsServer(
            "127.0.0.1", 0, lambda _path, _gzip: HttpAnswer(200, "text/plain", b"x")
        ) as one,
        contextlib.closing(_slow(one.port)) as wire,
    ):
        with contextlib.suppress(OSError):
            for _ in range(200):
                wire.sendall(b"x")
                if select.select([wire], [], [], 0.05)[0]:
                    break
        assert select.select([wire], [], [], 10)[0], "it was hung up on"


def test_a_request_without_end_is_cut_off() -> None:
    with MetricsServer(
        "127.0.0.1", 0, lambda _path, _gzip: HttpAnswer(200, "text/plain", b"x")
    ) as one:
        with contextlib.closing(_slow(one.port)) as wire, contextlib.suppress(OSError):
            wire.sendall(b"P/1.1\r\n" + b"X-Long: " + b"x" * 60_000 + b"\r\n")
            wire.sendall(b"X-Long: " + b"x" * 60_000 + b"\r\n\r\n")
            assert b"200" not in wire.recv(4096)
        assert _status(one.port, "/metrics") == 200


def test_why_a_component_is_not_well_is_one_of_the_known_kinds() -> None:
    rows = (
        Component("redis-cache", Severity.CRITICAL, False, error="timeout"),
        Component("payment-eapi", Severity.OK, True),
        Component("payment-sapi", Severity.UNKNOWN, None, error="config", configured=False),
        Component("conjur-vault", Severity.WARNING, True, error="whatever a stranger says"),
    )
    found = samples(render(outcome(components=rows)))["payment_api_component_error"]
    assert found == {(("component", "redis-cache"), ("error", "timeout")): 1.0}
