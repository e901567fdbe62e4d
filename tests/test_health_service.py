"""Payment-EAPI and Payment-SAPI judged from what their endpoints answered."""

from __future__ import annotations

import pytest

from monitoring.catalog import METRICS
from monitoring.config.settings import Limit
from monitoring.health.judges import judge, raised, sources_of
from monitoring.health.judging import FAULT_MEANS, Context
from monitoring.model import FAULT_KINDS, Fault, Measurement, Reading, Severity
from monitoring.thresholds import judge as judge_limits

OK, UNKNOWN, WARNING, CRITICAL = Severity.OK, Severity.UNKNOWN, Severity.WARNING, Severity.CRITICAL
NOW = 1_795_400_000.0
UP = {"status": 200, "body": {"status": "UP"}, "text": ""}


def read(facts=None, fault=None, seconds=0.05, name="payment-eapi"):
    return Reading(name, NOW, seconds if facts else None, facts or {}, fault)


def figures(judged):
    return {(m.name[12:], *sorted(m.labels.values())): m.value for m in judged.measurements}


@pytest.mark.parametrize(
    ("detailed", "severity", "said"),
    [
        (None, OK, "UP"),
        ({"status": 200, "body": {"status": "UP"}}, OK, "UP"),
        ({"status": 404, "body": None}, OK, "UP"),  # not offered is no error
        ({"status": 401, "body": None}, OK, "UP"),
        (
            {"status": 503, "body": {"status": "DEGRADED", "conjurVault": "DOWN"}},
            WARNING,
            "conjurVault",
        ),
        # a service that calls itself down because of a dependency is up all the same
        ({"status": 503, "body": {"status": "DOWN", "redisCache": "DOWN"}}, WARNING, "redisCache"),
        ({"status": 500, "body": None}, WARNING, "500"),
        ({"fault": Fault("timeout", "no answer within 5 s")}, WARNING, "no answer"),
    ],
)
def test_detailed_health_lowers_to_a_warning_at_most(detailed, severity, said):
    judged = judge(read({"health": UP, "detailed": detailed}), Context())
    assert (judged.component.status, judged.component.up) == (severity, True)
    assert said in judged.component.message


def within(**parts):
    return {"status": "UP", "components": parts}


OPEN = {"status": "UP", "details": {"state": "OPEN"}}


@pytest.mark.parametrize(
    ("body", "severity", "said"),
    [
        # breakers: known by the name of what they stand in, by their failure rate, or flat
        (within(circuitBreakers={"status": "UP", "details": {"vault": OPEN}}), WARNING, "/vault"),
        (within(circuitBreakers={"status": "UP", "details": {"v": "OPEN"}}), WARNING, "/v CIRCUIT"),
        ({"status": "UP", "breakers": {"v": "FORCED_OPEN"}}, WARNING, "breakers/v CIRCUIT_OPEN"),
        (
            {"status": "UP", "v": {"status": "UP", "failureRate": "9%", "state": "HALF_OPEN"}},
            WARNING,
            "v CIRCUIT_HALF_OPEN",
        ),
        (within(circuitBreakers={"status": "UP", "details": {"v": "CLOSED"}}), OK, "UP"),
        (within(index=OPEN), OK, "UP"),  # an index is no breaker
        # members of a composite of Boot 1 stand flat in it
        ({"status": "UP", "db": {"status": "UP", "one": {"status": "DOWN"}}}, WARNING, "db/one"),
        ({"status": "UP", "db": {"status": "UP", "version": {"major": 9}}}, OK, "UP"),
        # a part that only sounds like a component with a check of its own
        (within(eapiDb={"status": "DOWN"}), WARNING, "eapiDb DOWN"),
        (within(redisStream={"status": "DOWN"}), WARNING, "redisStream DOWN"),
        (within(redisCache={"status": "DOWN"}, redis={"status": "DOWN"}), OK, "UP"),
        # a word that nobody knows is no good word
        (within(db={"status": "FATAL"}), UNKNOWN, "STATUS_WORDS"),
        (within(db={"status": "UNKNOWN"}), OK, "UP"),
        (within(redisCache={"status": "FATAL"}), OK, "UP"),
    ],
)
def test_parts_inside_an_answer_that_says_up(body, severity, said):
    component = judge(read({"health": {"status": 200, "body": body, "text": ""}}), Context())
    assert (component.component.status, component.component.up) == (severity, True)
    assert said in component.component.message


@pytest.mark.parametrize("worse", ["health", "detailed"])
def test_of_two_answers_that_disagree_about_a_part_the_worse_holds(worse):
    def answer(word):
        return {"status": 200, "body": within(database={"status": word}), "text": ""}

    facts = {"health": answer("UP"), "detailed": answer("UP"), worse: answer("DOWN")}
    component = judge(read(facts), Context()).component
    assert (component.status, component.up) == (WARNING, True)
    assert component.details["reported_dependencies"] == {"database": "DOWN"}


def test_a_detailed_answer_in_a_word_that_nobody_knows_is_no_good_word():
    facts = {"health": UP, "detailed": {"status": 200, "body": {"status": "FATAL"}}}
    component = judge(read(facts), Context()).component
    assert (component.status, component.up) == (UNKNOWN, True)
    assert "detailed health says FATAL" in component.message
    assert "STATUS_WORDS" in component.message
    known = Context(status_words={"FATAL": "critical"})
    assert judge(read(facts), known).component.status is WARNING


def test_the_basic_answer_decides_what_is_down():
    facts = {
        "health": {"status": 200, "body": {"status": "DOWN"}},
        "detailed": {"status": 200, "body": {"status": "UP"}},
    }
    component = judge(read(facts), Context()).component
    assert (component.status, component.up) == (CRITICAL, False)


def test_every_fault_kind_has_a_meaning():
    assert set(FAULT_MEANS) == set(FAULT_KINDS)


@pytest.mark.parametrize(
    ("kind", "severity", "up"),
    [
        ("dns", CRITICAL, False),
        ("connect", CRITICAL, False),
        ("refused", CRITICAL, False),
        ("timeout", CRITICAL, False),
        ("tls", CRITICAL, False),
        ("protocol", CRITICAL, False),
        ("redirect", UNKNOWN, None),
        ("body", UNKNOWN, None),
        ("too_large", UNKNOWN, None),
        ("config", UNKNOWN, None),
        ("internal", UNKNOWN, None),
    ],
)
def test_no_answer(kind, severity, up):
    judged = judge(read(fault=Fault(kind, "why")), Context())
    component = judged.component
    assert (component.status, component.up, component.error) == (severity, up, kind)
    assert component.response_time_ms is None
    assert component.message == "why"
    (source,) = sources_of(read(fault=Fault(kind, "why")), judged)
    assert source.ok is (severity is not UNKNOWN)
    assert source.read is False  # whoever is to blame: `payment_api_up` is 0
    assert figures(judged)["health_status", "payment-eapi"] == (None if up is None else 0.0)


def test_transport_facts_become_figures():
    facts = {
        "health": UP,
        "phases": {"dns": 0.001, "first_byte": 0.04},
        "tls": {
            "protocol": "TLSv1.3",
            "expires_at": NOW + 10 * 86400,
            "chain": [("leaf", NOW + 90 * 86400), ("middle", NOW + 10 * 86400)],
        },
        "server_date": float(int(NOW)) - 40,
        "answered_at": NOW + 0.5,
    }
    judged = judge(read(facts), Context())
    found = figures(judged)
    assert found["tls_certificate_remaining_seconds", "payment-eapi"] == 10 * 86400
    assert found["request_phase_seconds", "first_byte", "payment-eapi"] == 0.04
    assert found["clock_skew_seconds", "payment-eapi"] == pytest.approx(-40.0)
    tls = judged.component.details["tls"]
    assert (tls["protocol"], tls["days_left"]) == ("TLSv1.3", 10.0)
    assert [c["days_left"] for c in tls["chain"]] == [90.0, 10.0]


@pytest.mark.parametrize("ahead", [0.0, 0.4, 0.99])
def test_the_whole_seconds_of_a_date_header_are_no_skew(ahead):
    facts = {"health": UP, "server_date": float(int(NOW)), "answered_at": NOW + ahead}
    assert figures(judge(read(facts), Context()))["clock_skew_seconds", "payment-eapi"] == 0.0


def test_dependencies_are_shown_as_the_service_says_them():
    body = {"status": "DEGRADED", "conjurVault": "DOWN", "redisCache": "UP", "x": {"status": "ODD"}}
    facts = {"health": UP, "detailed": {"status": 503, "body": body}}
    judged = judge(read(facts), Context())
    found = figures(judged)
    assert found["dependency_status", "conjurVault", "payment-eapi"] == 0.0
    assert found["dependency_status", "payment-eapi", "redisCache"] == 1.0
    assert found["dependency_status", "payment-eapi", "x"] is None
    assert judged.component.details["reported_dependencies"]["conjurVault"] == "DOWN"


def requests(total):
    return {"health": UP, "metrics": {"requests": total, "cpu_ratio": 0.5}}


def test_error_ratio_is_of_the_time_since_the_last_cycle():
    first = judge(read(requests({("a", "200"): 1000.0, ("b", "200"): 50.0})), Context())
    found = figures(first)
    assert found["service_error_ratio", "payment-eapi"] is None  # nothing to compare with
    assert found["service_cpu_ratio", "payment-eapi"] == 0.5
    context = Context(at=NOW - 60.0, counters=first.counters)
    # a: 90 more, and its first ten 500s; b restarted and has answered 20 since
    later = {("a", "200"): 1090.0, ("a", "500"): 10.0, ("b", "200"): 20.0}
    found = figures(judge(read(requests(later)), context))
    # the basic health of this cycle is among the 120
    assert found["service_error_ratio", "payment-eapi"] == pytest.approx(10 / 119)
    assert found["service_request_rate", "payment-eapi"] == pytest.approx(119 / 60)


def test_our_own_questions_are_no_errors_of_the_service():
    first = judge(read(requests({("a", "200"): 1000.0})), Context())
    context = Context(at=NOW - 60.0, counters=first.counters)
    degraded = {"status": 503, "body": {"status": "DEGRADED"}}
    later = {**requests({("a", "200"): 1100.0, ("a", "503"): 1.0}), "detailed": degraded}
    assert figures(judge(read(later), context))["service_error_ratio", "payment-eapi"] == 0.0


def test_a_failure_among_few_is_no_ratio():
    first = judge(read(requests({("a", "200"): 1000.0})), Context())
    context = Context(at=NOW - 60.0, counters=first.counters)
    few = requests({("a", "200"): 1010.0, ("a", "500"): 5.0})
    found = figures(judge(read(few), context))
    assert found["service_error_ratio", "payment-eapi"] is None
    assert found["service_request_rate", "payment-eapi"] > 0


def test_counters_of_long_ago_are_no_last_cycle():
    context = Context(at=NOW - 4000.0, counters={"payment-eapi|http_requests|a|200": 1.0})
    found = figures(judge(read(requests({("a", "200"): 5.0})), context))
    assert found["service_request_rate", "payment-eapi"] is None


def test_no_metrics_page_is_no_error():
    judged = judge(read({"health": UP, "metrics": {"why": "HTTP 404"}}), Context())
    assert judged.component.status is OK
    assert not any("service_" in m.name for m in judged.measurements)
    assert judged.component.details["metrics"] == "not read: HTTP 404"


LIMITS = {"performance.api_response_time": Limit(300, 500)}


@pytest.mark.parametrize(
    ("seconds", "status"), [(0.1, OK), (0.3, WARNING), (0.5, CRITICAL), (None, OK)]
)
def test_a_slow_answer_raises_the_row(seconds, status):
    component = judge(read({"health": UP}, seconds=seconds), Context()).component
    labels = {"component": "payment-eapi"}
    figure = Measurement("payment_api_response_time_ms", component.response_time_ms, labels)
    shown = raised(component, judge_limits([figure], LIMITS))
    assert (shown.status, shown.up) == (status, True)
    if status is CRITICAL:
        assert shown.message == ("says UP; response time 500 ms (critical from 500 ms)")


def test_what_is_unknown_stays_unknown_and_what_is_down_stays_down():
    slow = Measurement("payment_api_response_time_ms", 900.0, {"component": "payment-eapi"})
    verdicts = judge_limits([slow], LIMITS)
    for fault, status in ((Fault("body", "no JSON"), UNKNOWN), (Fault("tls", "expired"), CRITICAL)):
        component = judge(read(fault=fault), Context()).component
        assert raised(component, verdicts).status is status
        assert raised(component, verdicts).message == fault.message
    other = judge(read({"health": UP}, name="payment-sapi"), Context()).component
    assert raised(other, verdicts) is other


def test_every_figure_is_in_the_catalogue():
    facts = {**requests({("a", "200"): 1.0}), "server_date": NOW, "answered_at": NOW}
    facts["phases"] = {"dns": 0.1}
    for measurement in judge(read(facts), Context()).measurements:
        assert set(measurement.labels) == set(METRICS[measurement.name].labels)
