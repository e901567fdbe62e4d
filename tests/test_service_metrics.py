"""Service metrics: both families, every spelling, several instances, nothing counted twice."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from monitoring.config.settings import ServiceMetricsSettings, ServiceSettings, TlsSettings
from monitoring.http.client import HttpClient
from monitoring.services import (
    counters,
    counters as service_counters,
    families,
    labels,
    labels as prometheus_text,
    metrics as service_metrics,
)
from monitoring.services.counters import CounterSample
from monitoring.services.labels import Sample
from sandbox.micrometer import ServiceMetrics as Meters
from tests.raw_server import RawServer, answers, http

PLAIN = ServiceMetricsSettings()


def settled(text: str, mapping: ServiceMetricsSettings = PLAIN) -> families.Settled:
    """What the page of one instance says, all that it ever counted."""
    samples = prometheus_text.read(text, service_counters.wanted(mapping)).samples
    found, _ = service_counters.counters(samples, "i", mapping)
    page = counters.keyed("eapi", found, 0.0)
    return families.settled(counters.whole(page), page)


def canonical(text: str, mapping: ServiceMetricsSettings = PLAIN) -> dict[tuple[Any, ...], float]:
    """{(name, label values...): value} of an exposition."""
    return {
        (key.name, *(v for _, v in key.labels if v)): delta.increase
        for key, delta in settled(text, mapping).deltas.items()
    }


def served(family: str) -> str:
    meters = Meters("payment-eapi", family)
    for ok in (True, True, False):
        meters.authentication("c1", ok)
    meters.authentication("c2", False)
    meters.generated("c1", 0.1)
    meters.validated("c1", None, 0.1)
    meters.validated("c1", "expired", 0.1)
    meters.vault("read", "c1", True)
    meters.request("/a", "GET", 200, seconds=0.1)
    meters.request("/b", "GET", 200, seconds=0.1)
    meters.request("/b", "GET", 503, seconds=0.1)
    return meters.registry.render()


def test_the_micrometer_family() -> None:
    assert canonical(served("micrometer")) == {
        ("authentication_attempts", "c1", "true"): 2,
        ("authentication_attempts", "c1", "false"): 1,
        ("authentication_attempts", "c2", "false"): 1,
        ("token_generation", "c1"): 1,
        ("token_validation", "c1", "true"): 1,
        ("token_validation", "c1", "unspecified", "false"): 1,
        ("http_requests", "200"): 2,
        ("http_requests", "503"): 1,
    }, "http_requests counts each request once, though two meters do"


def test_the_other_family() -> None:
    assert canonical(served("alternative")) == {
        ("authentication_attempts", "c1", "true"): 2,
        ("authentication_attempts", "c1", "false"): 1,
        ("authentication_attempts", "c2", "false"): 1,
        ("token_generation", "c1"): 1,
        ("token_validation", "expired", "false"): 1,
        ("token_validation", "true"): 1,
        ("credential_access", "c1"): 1,
        ("http_requests", "200"): 2,
        ("http_requests", "503"): 1,
    }


SPELLINGS: list[tuple[str, Mapping[str, str], dict[tuple[Any, ...], float]]] = [
    (
        "the usual suffix",
        {"payment_token_generation_count_total": "1"},
        {("token_generation", "c"): 1},
    ),
    ("none", {"payment_token_generation_count": "1"}, {("token_generation", "c"): 1}),
    ("twice", {"payment_token_generation_count_total_total": "1"}, {("token_generation", "c"): 1}),
    (
        "both at once count once",
        {"payment_token_generation_count_total": "1", "payment_token_generation_count": "1"},
        {("token_generation", "c"): 1},
    ),
    (
        "a meter without .count",
        {"payment_token_generation_total": "1"},
        {("token_generation", "c"): 1},
    ),
    ("a created time is no count", {"payment_token_generation_count_created": "1e9"}, {}),
    ("a longest time is no count", {"payment_token_generation_time_seconds_max": "1"}, {}),
    ("not a number", {"payment_token_generation_count_total": "NaN"}, {}),
    ("infinity", {"payment_token_generation_count_total": "+Inf"}, {}),
]


@pytest.mark.parametrize(("why", "lines", "found"), SPELLINGS, ids=[s[0] for s in SPELLINGS])
def test_spellings(why: str, lines: Mapping[str, str], found: Any) -> None:
    text = "".join(f'{name}{{clientId="c"}} {value}\n' for name, value in lines.items())
    assert canonical(text) == found, why


def test_attempts_without_their_end_are_good_less_the_failures() -> None:
    text = (
        'payment_authentication_attempts_total{client_id="c"} 10\n'
        'payment_authentication_failures_total{client_id="c"} 3\n'
    )
    assert canonical(text) == {
        ("authentication_attempts", "c", "true"): 7,
        ("authentication_attempts", "c", "false"): 3,
    }


def test_names_of_the_configuration_come_first() -> None:
    mapping = ServiceMetricsSettings(
        names={"token_generation": ("my_minted_total",)}, client_labels=("vendor",)
    )
    text = 'my_minted_total{vendor="v"} 7\npayment_token_generation_total{vendor="v"} 9\n'
    assert canonical(text, mapping) == {("token_generation", "v"): 7}


def test_series_that_differ_in_other_labels_are_summed() -> None:
    text = "".join(
        f'payment_credential_access_total{{client_id="c",pod="{n}"}} 2\n' for n in range(3)
    )
    assert canonical(text) == {("credential_access", "c"): 6}


def test_clients_are_bounded_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_counters, "MAX_CLIENTS", 10)
    text = "".join(f'payment_credential_access_total{{client_id="c{n}"}} 1\n' for n in range(25))
    samples = prometheus_text.read(text, service_counters.wanted(PLAIN)).samples
    kept, left_out = service_counters.counters(samples, "i", PLAIN)
    assert (len(kept), left_out) == (10, 15)


def test_who_is_left_out_does_not_come_in_by_another_order_or_by_newcomers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_counters, "MAX_CLIENTS", 10)
    name = "payment_authentication_attempts_total"
    requests = Sample("http_server_requests_seconds_count", {"status": "200"}, 5.0)

    def kept(clients: Iterable[int]) -> set[str]:
        found = [Sample(name, {"clientId": f"c{n}", "success": "true"}, 1.0) for n in clients]
        kept, _ = service_counters.counters([*found, requests], "i", PLAIN)
        assert "http_requests" in {sample.name for sample in kept}
        return {dict(s.labels).get("client", "") for s in kept}

    few, shuffled, many = kept(range(25)), kept(reversed(range(25))), kept(range(60))
    assert few == shuffled
    assert many & {f"c{n}" for n in range(25)} <= few


def test_hostile_labels_are_made_fit() -> None:
    text = 'payment_credential_access_total{client_id="\x1b[31m' + "x" * 500 + '"} 1\n'
    text += 'payment_api_requests_total{status="<script>"} 1\n'
    (access, requests) = canonical(text)
    assert access[1].isprintable()
    assert len(access[1]) <= 64
    assert requests == ("http_requests", "other")


# --- the text -------------------------------------------------------------------------------------

LINES: list[tuple[str, list[Any]]] = [
    ("a 1", [("a", {}, 1.0)]),
    ("a{} 1.5e3 1795400000000", [("a", {}, 1500.0)]),
    ('a{b="c"} 2', [("a", {"b": "c"}, 2.0)]),
    ('a{b="c",} 2', [("a", {"b": "c"}, 2.0)]),
    ('a{ b="}" , c="\\"\\\\\\n" } -3', [("a", {"b": "}", "c": '"\\\\n'}, -3.0)]),
    ('a_total 4 # {trace_id="x"} 0.5 1795400000.0', [("a_total", {}, 4.0)]),
    ('a_total{b="c"} 4 1795400000 # {trace_id="x"} 0.5', [("a_total", {"b": "c"}, 4.0)]),
    ("# TYPE a counter\n# EOF\n\n", []),
    ("", []),
    ("a NaN\nb 1\na +Inf", [("b", {}, 1.0)]),
    ("a one\nb 1", [("b", {}, 1.0)]),
    ("good 1\n<html> garbage", [("good", {}, 1.0)]),
    ('a{"b"="c","d.e"="f"} 1', [("a", {"b": "c", "d.e": "f"}, 1.0)]),
    ('{"a.b","c"="d"} 1', [("a.b", {"c": "d"}, 1.0)]),
    ('{"a"} 1', [("a", {}, 1.0)]),
    ('{"c"="d","a.b"} 1', [("a.b", {"c": "d"}, 1.0)]),
    ('{"a\\"b", c="d"} 1 1795400000000', [('a"b', {"c": "d"}, 1.0)]),
    ('{c="d"} 1\nb 2', [("b", {}, 2.0)]),
    ('a {b = "c"} 1', [("a", {"b": "c"}, 1.0)]),
    ('a{b="c\u2028d"} 1\r\nb 2', [("a", {"b": "c\\u2028d"}, 1.0), ("b", {}, 2.0)]),
]


@pytest.mark.parametrize(("text", "samples"), LINES, ids=lambda v: repr(v)[:30])
def test_lines(text: str, samples: list[Any]) -> None:
    assert [tuple(s) for s in prometheus_text.read(text, lambda _: True).samples] == samples


@pytest.mark.parametrize("text", ["<html>\n<p>hello</p>", '{"status":"UP"}', "not, at: all!"])
def test_what_is_no_exposition(text: str) -> None:
    with pytest.raises(ValueError, match="no Prometheus metrics"):
        prometheus_text.read(text, lambda _: True)


@pytest.mark.parametrize(
    "text",
    ["a{" + '"' * 300_000, "a{" + 'x="y",' * 100_000, "a{" * 100_000, 'a{b="' + "\\" * 300_000],
    ids=["quotes", "labels", "braces", "escapes"],
)
def test_bombs_take_no_time(text: str) -> None:
    began = time.process_time()
    try:
        prometheus_text.read(text + "\nok 1", lambda _: True)
    finally:
        assert time.process_time() - began < 3


# --- over the wire --------------------------------------------------------------------------------


def service(*urls: str, **more: Any) -> ServiceSettings:
    return ServiceSettings("payment-eapi", "", {}, timeout=5.0, metrics_urls=urls, **more)


def ask(settings: ServiceSettings) -> service_metrics.ServiceMetrics:
    asking = HttpClient(tls=TlsSettings(), timeout=5.0, user_agent="tests")
    return service_metrics.read(asking, settings, PLAIN, headers={"X-Own": "1"})


def _at(start: int, count: int) -> bytes:
    text = f"process_start_time_seconds {start}\n"
    text += f'payment_credential_access_total{{client_id="c"}} {count}\n'
    return http(text.encode(), Content_Type="text/plain; version=0.0.4")


def test_instances_are_read_apart_and_a_dead_one_is_named() -> None:
    with RawServer(answers(_at(100, 1))) as one, RawServer(answers(_at(200, 2))) as two:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            dead = f"http://127.0.0.1:{listener.getsockname()[1]}"
        found = ask(service(one.url + "/m", two.url + "/m", dead + "/m"))
        accept = [line for line in one.requests[0].split(b"\r\n") if line.startswith(b"Accept:")]
        assert accept == [b"Accept: text/plain;version=0.0.4"], "else OpenMetrics may come"
        assert b"X-Own: 1" in one.requests[0]
    label = (("client", "c"), ("family", "000 payment_credential_access"))
    first, second = f"{one.url}/m@100.000", f"{two.url}/m@200.000"
    assert set(found.samples) == {
        CounterSample("credential_access", label, first, 1.0),
        CounterSample("credential_access", label, second, 2.0),
        *(service_counters.read_at(instance, PLAIN) for instance in (first, second)),
    }
    assert found.instances == (first, second)
    assert [(f.instance, f.fault.kind) for f in found.faults] == [(f"{dead}/m", "refused")]
    assert found.seconds > 0


def test_the_path_of_the_service_serves_where_no_urls_are_listed() -> None:
    with RawServer(answers(_at(1, 1))) as server:
        settings = ServiceSettings("s", server.url + "/ctx/", {"metrics": "/actuator/prometheus"})
        assert len(ask(settings).samples) == 2
        assert server.requests[0].startswith(b"GET /ctx/actuator/prometheus ")


def test_no_path_is_not_configured_and_no_fault() -> None:
    found = ask(ServiceSettings("s", "http://127.0.0.1:1", {}))
    assert (found.configured, found.faults, found.instances) == (False, (), ())


REFUSED = [
    ("404 Not Found", b"", "http"),
    ("401 No", b"", "auth"),
    ("500 Oops", b"", "http"),
    ("200 OK", b"<html>login</html>", "body"),
]


@pytest.mark.parametrize(("status", "body", "kind"), REFUSED)
def test_refusals(status: str, body: bytes, kind: str) -> None:
    with RawServer(answers(http(body, status))) as server:
        (fault,) = ask(service(server.url)).faults
    assert fault.fault.kind == kind
    assert server.url in fault.fault.message


def test_gauges_of_the_process() -> None:
    text = (
        "process_cpu_usage 0.25\nprocess_uptime_seconds 60\n"
        'jvm_memory_used_bytes{area="heap",id="Eden"} 100\n'
        'jvm_memory_used_bytes{area="heap",id="Old"} 200\n'
        'jvm_memory_used_bytes{area="nonheap",id="Meta"} 999\n'
        'jvm_memory_max_bytes{area="heap",id="Eden"} -1\n'
        'jvm_memory_max_bytes{area="heap",id="Old"} 600\n'
    )
    with RawServer(answers(http(text.encode()))) as server:
        gauges = {g.name: g.value for g in ask(service(server.url)).gauges}
    assert gauges == {"cpu_ratio": 0.25, "uptime_seconds": 60, "heap_used_ratio": 0.5}


def test_a_word_for_both_ends_says_neither() -> None:
    known = labels.tables(ServiceMetricsSettings(success_words=("ok", "Expired")))
    given = [labels.given({"result": word}) for word in ("OK", "expired", "no")]
    assert [labels.end(each, known)[0] for each in given] == ["true", "unknown", "false"]
    # in one order in every process: what was counted is compared by it
    assert list(known.words) == sorted(known.words)
