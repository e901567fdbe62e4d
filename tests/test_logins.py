"""Logins and validations are right or unknown, whatever a service's metrics page looks like: cycles
of the scripts over a real page, with five minutes between the looks."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import pytest

import credential_usage_metrics
import utils
from monitoring.config import load as configuration
from monitoring.model import Outcome
from monitoring.output import report
from monitoring.store.state import State
from monitoring.tokens.cycle import TokenUsage
from tests import scripts

DATA = Path(__file__).parent / "data" / "logins.jsonl"
CREDENTIALS, TOKENS = "credential_usage_metrics", "token_usage_metrics"
BEFORE, NOW = (1000, 0), (1010, 50)
LOGINS, VALIDATIONS = "payment_authentication", "payment_token_validation"


class Pages:
    """A server whose pages, by path, a test sets."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        pages = self.texts

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = pages.get(self.path, "").encode()
                self.send_response(200 if self.path in pages else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def pages() -> Iterator[Pages]:
    with closing(Pages()) as made:
        yield made


class Look:
    """Cycles of one script with a state of its own, five minutes apart."""

    def __init__(
        self, pages: Pages, folder: Path, script: str = CREDENTIALS, **settings: Any
    ) -> None:
        self._pages, self._folder, self._script = pages, folder, script
        self._config = {"METRICS_URLS": {"payment-eapi": [f"{pages.url}/a"]}, **settings}
        self._now = time.time() - 7200.0
        self._environ = {
            "EAPI_ENDPOINT": pages.url,
            "SAPI_ENDPOINT": "",
            "CONJUR_URL": "",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": "1",
            "MONITORING_STATE_DIR": str(folder / "state"),
        }

    def with_canary(self) -> Look:
        self._environ.update(MONITORING_CLIENT_ID="canary", MONITORING_CLIENT_SECRET="s")
        return self

    def __call__(self, **texts: str) -> Mapping[str, Any]:
        """The document of a cycle over the pages `texts`, by path."""
        self._pages.texts.update({f"/{path}": text for path, text in texts.items()})
        self._now += 300.0
        file = self._folder / "own.yaml"
        file.write_text(json.dumps(self._config))
        settings = configuration.load(
            script=self._script,
            root=scripts.ROOT,
            config_file=str(file),
            environ=self._environ,
            cwd=self._folder,
        )
        with closing(
            utils.Runtime(self._script, settings, argparse.Namespace(interval=300.0))
        ) as kit:
            kit.clock = lambda: self._now
            outcome = self._cycle(kit)(self._now)
        # what a user reads, with everything that JSON cannot hold taken out
        found: Mapping[str, Any] = json.loads(json.dumps(report.as_json(outcome)))
        return found

    def _cycle(self, kit: utils.Runtime) -> Callable[[float], Outcome]:
        if self._script == CREDENTIALS:
            return credential_usage_metrics.CredentialUsage(kit).cycle
        eapi, sapi = kit.http(kit.settings.eapi), kit.http(kit.settings.sapi)
        return TokenUsage(kit.settings, kit.state, eapi=eapi, sapi=sapi).cycle

    def by_script(self, **texts: str) -> Mapping[str, Any]:
        """The same by the script itself, as a user runs it."""
        self._pages.texts.update({f"/{path}": text for path, text in texts.items()})
        file = self._folder / "own.yaml"
        file.write_text(json.dumps(self._config))
        self._age()
        done = scripts.run(
            self._script,
            *("--single-run", "--no-alerts", "--output", "-", "--config", str(file)),
            env=self._environ,
            cwd=self._folder,
        )
        found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _age(self) -> None:
        """Five minutes pass."""
        if not (self._folder / "state").exists():
            return
        with State.open(self._folder / "state") as state, state.transaction() as tx:
            tx.execute("UPDATE counters SET at = at - 300")
            tx.execute(
                "UPDATE kv SET value = CAST(value AS REAL) - 300 "
                "WHERE scope = 'logins' AND key = 'looked'"
            )


def filled(page: str, counts: tuple[int, int]) -> str:
    good, bad = counts
    named = {"BOTH": good + bad, "GOOD": good, "BAD": bad}
    for word, count in named.items():
        page = page.replace(word, str(count))
    return page


def values(document: Mapping[str, Any], name: str, **labels: str) -> list[Optional[float]]:
    return [
        row["value"]
        for row in document["metrics"]
        if row["name"] == f"payment_api_{name}" and labels.items() <= row["labels"].items()
    ]


def value(document: Mapping[str, Any], name: str, **labels: str) -> Optional[float]:
    (found,) = values(document, name, **labels)
    return found


def said(document: Mapping[str, Any], noun: str = "logins") -> dict[str, str]:
    return {
        finding["reason"]: finding["sentence"]
        for finding in document["findings"]
        if finding["reason"].startswith(noun)
    }


# -- every shape of page


class Shape(NamedTuple):
    """A page; the failures and the success ratio after it, None where they cannot be known; and a
    word of the sentence that says why."""

    why: str
    page: str
    failures: Optional[float] = 50
    ratio: Optional[float] = 1 / 6
    word: str = ""


def labelled(*ends: str, client: str = 'clientId="c1",', name: str = "attempts_total") -> str:
    """Series of one family, GOOD and BAD in turn, that differ in a label."""
    counts = ("GOOD", "BAD", "BAD")
    return "".join(f"@_{name}{{{client}{end}}} {n}\n" for end, n in zip(ends, counts))


def family(name: str, count: str, labels: str = 'client_id="c1"') -> str:
    return f"@_{name}_total{{{labels}}} {count}\n"


GOOD_BAD = labelled('success="true"', 'success="false"')
BARE = labelled('success="true"', 'success="false"', client="")
ENDS = family("success", "GOOD") + family("failures", "BAD")

SHAPES = [
    Shape("result ok and ko", labelled('result="ok"', 'result="KO"')),
    Shape(
        "a word in capitals with a dash", labelled('status="Succeeded"', 'status="client-error"')
    ),
    Shape("classes of statuses", labelled('code="2xx"', 'code="5xx"')),
    Shape(
        "a label whose name has a dot",
        labelled('"client.id"="c1",success="yes"', 'success="no"', client=""),
    ),
    Shape(
        "the name in quotes, with dots",
        '{"@.attempts","client.id"="c1","success"="true"} GOOD\n'
        '{"@.attempts","client.id"="c1","success"="false"} BAD\n',
    ),
    Shape(
        "two labels that agree",
        labelled('outcome="SUCCESS",status="200"', 'outcome="CLIENT_ERROR",status="401"'),
    ),
    Shape(
        "an unknown word beside a known one",
        labelled('success="true",status="fine"', 'success="false",status="bad"'),
    ),
    Shape(
        "labels that disagree",
        labelled('success="true",status="200"', 'success="true",status="401"'),
        None,
        None,
        'status="401"',
    ),
    Shape(
        "an unknown word",
        labelled('outcome="SUCCESS"', 'outcome="WEIRD"'),
        None,
        None,
        'outcome="WEIRD"',
    ),
    Shape(
        "an unknown word beside known ones",
        labelled('success="true"', 'success="false"', 'success="maybe"'),
        None,
        None,
        'success="maybe"',
    ),
    Shape("a status with its reason", labelled('status="200 OK"', 'status="401 Unauthorized"')),
    Shape("another name for the status", labelled('httpStatus="200"', 'httpStatus="401"')),
    Shape(
        "an exception where it failed",
        labelled('exception="None"', 'exception="BadCredentials"'),
        None,
        None,
        'exception="BadCredentials"',
    ),
    Shape("a redirect", labelled('status="200"', 'status="302"'), None, None, 'status="302"'),
    Shape(
        "1 and 0 where they may mean either",
        labelled('code="0"', 'code="1"'),
        None,
        None,
        'code="1"',
    ),
    Shape(
        "an unknown label", labelled('verdict="granted"', 'verdict="denied"'), None, None, "verdict"
    ),
    Shape("attempts alone, without any label", "@_attempts_total BOTH\n", None, None, "@_attempts"),
    Shape("failures alone", family("failures", "BAD"), 50, None, "succeeded"),
    Shape("successes alone", family("success", "GOOD"), None, None, "failed"),
    Shape("attempts and errors", family("attempts", "BOTH") + family("errors", "BAD")),
    Shape("attempts and successes", family("attempts", "BOTH") + family("succeeded", "GOOD")),
    Shape("two spellings of one count", ENDS + family("failed", "BAD")),
    Shape("two counts that may be one", ENDS + family("errors", "GOOD"), None, None, "@_errors"),
    Shape(
        "errors that failures include", family("attempts", "BOTH") + ENDS + family("errors", "GOOD")
    ),
    Shape(
        "attempts that nobody else counts",
        family("attempts", "BOTH") + family("success", "GOOD") + family("failures", "0"),
        None,
        None,
        "@_attempts",
    ),
    Shape(
        "one end by a label, the other by a name",
        labelled('success="true"') + family("failures", "BAD"),
    ),
    Shape(
        "one end by a label, and attempts",
        labelled('success="true"') + family("attempts", "BOTH", 'clientId="c1"'),
        None,
        None,
        "@_attempts",
    ),
    Shape("two families, one without clients", BARE + ENDS),
    Shape(
        "two families, one counts strangers too",
        BARE + family("success", "GOOD") + family("failures", "0"),
    ),
    Shape("one family with and without clients", GOOD_BAD + BARE),
    Shape(
        "a timer alone",
        labelled('success="true"', 'success="false"', name="attempts_seconds_count")
        + "@_attempts_seconds_sum 12\n",
    ),
    Shape(
        "a timer beside the counter",
        GOOD_BAD + labelled('success="true"', 'success="false"', name="attempts_seconds_count"),
    ),
    Shape(
        "a recording rule and a creation time",
        GOOD_BAD
        + 'job:@_attempts_total:rate5m{success="false"} 9\n'
        + '@_attempts_created{clientId="c1"} 1.79e9\n',
    ),
    Shape(
        "an exemplar and a time",
        GOOD_BAD.replace("BAD\n", 'BAD 1795400000 # {trace_id="a"} 1 1795400000.5\n'),
    ),
    Shape(
        "the suffix twice, and left out",
        GOOD_BAD + GOOD_BAD.replace("_total", "") + GOOD_BAD.replace("_total", "_total_total"),
    ),
    Shape("no family at all", "jvm_threads_live_threads 7\n", None, None, "SERVICE_METRICS"),
]


@pytest.mark.parametrize("canary", [True, False], ids=["canary", "no-canary"])
@pytest.mark.parametrize("shape", SHAPES, ids=[shape.why for shape in SHAPES])
def test_a_figure_of_logins_appears_only_where_it_is_right(
    shape: Shape, canary: bool, pages: Pages, tmp_path: Path
) -> None:
    look = Look(pages, tmp_path)
    page = shape.page.replace("@.", "payment.authentication.").replace("@", LOGINS)
    (look.with_canary() if canary else look)(a=filled(page, BEFORE))
    found = look(a=filled(page, NOW))
    assert value(found, "authentication_failures_recent", client_id="all") == shape.failures
    assert value(found, "authentication_success_ratio") == pytest.approx(shape.ratio)
    counted = values(found, "authentication_failures_total")
    assert sum(n or 0 for n in counted) == (
        shape.failures or (50 if "beside known" in shape.why else 0)
    )
    if shape.failures is None and "no family" not in shape.why:
        assert values(found, "authentication_failures_total", client_id="c1") in ([], [50])
    sentences = " ".join([*said(found).values(), found["sources"]["eapi-metrics"].get("why", "")])
    assert shape.word.replace("@", LOGINS) in sentences
    assert ("logins_not_understood" in said(found)) == bool(
        shape.word and "no family" not in shape.why
    )


CASES = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_the_cases_from_the_field(case: Mapping[str, Any], pages: Pages, tmp_path: Path) -> None:
    look = Look(pages, tmp_path)
    if case.get("canary", True):
        look.with_canary()
    cycle = look.by_script if case.get("must") else look
    cycle(a=filled(case["page"], BEFORE))
    found = cycle(a=filled(case["page"], NOW))
    failures = value(found, "authentication_failures_recent", client_id="all")
    ratio = value(found, "authentication_success_ratio")
    if case.get("must") or (failures is not None and ratio is not None):
        assert (failures, ratio) == (50, pytest.approx(1 / 6))
    else:
        assert failures in (None, 50)
        assert said(found)


@pytest.mark.parametrize(
    "shape",
    [
        Shape("", labelled('valid="true"', 'valid="false"', name="count_total"), 50, 1 / 6, ""),
        Shape("", labelled('result="OK"', 'result="KO"', name="total", client=""), 50, 1 / 6, ""),
        Shape(
            "",
            family("attempts", "BOTH", "") + family("failures", "BAD", 'failure_type="expired"'),
            50,
            1 / 6,
            "",
        ),
        Shape("", family("attempts", "BOTH", ""), None, None, "@_attempts"),
        Shape(
            "", labelled('outcome="OK"', 'outcome="HUH"', name="total"), None, None, 'outcome="HUH"'
        ),
        Shape("", family("failures", "BAD", 'reason="never heard of"'), 50, None, "succeeded"),
    ],
)
def test_a_figure_of_validations_appears_only_where_it_is_right(
    shape: Shape, pages: Pages, tmp_path: Path
) -> None:
    look, page = Look(pages, tmp_path, TOKENS), shape.page.replace("@", VALIDATIONS)
    look(a=filled(page, BEFORE))
    found = look(a=filled(page, NOW))
    assert value(found, "token_validation_failures_recent") == shape.failures
    assert value(found, "token_validation_success_ratio") == pytest.approx(shape.ratio)
    validations = found["tokens"]["validations"]
    assert validations["failure"] == shape.failures
    assert validations["success_rate"] == pytest.approx(shape.ratio, abs=1e-5)
    assert shape.word.replace("@", VALIDATIONS) in " ".join(said(found, "validations").values())
    counted = values(found, "token_validation_failures_total")
    assert sum(n or 0 for n in counted) == (shape.failures or 0)
    assert len(counted) == (0 if shape.failures is None else 7)


@pytest.mark.parametrize("label", ["consumer", "app"])
def test_a_label_that_may_name_the_client_is_said(label: str, pages: Pages, tmp_path: Path) -> None:
    look, page = Look(pages, tmp_path), labelled('success="true"', client=f'{label}="x",')
    found = look(a=filled(page.replace("@", LOGINS), NOW))
    assert f'{label}="x"' in said(found)["logins_without_clients"]


def test_reasons_that_nobody_knew_are_counted_under_other_which_stands_at_0(
    pages: Pages, tmp_path: Path
) -> None:
    look, name = Look(pages, tmp_path, TOKENS), "token_validation_failures_total"
    first = values(look(a="jvm_threads_live_threads 7\n"), name)
    assert (len(first), set(first)) == (7, {0.0}), "the known reasons, unspecified, and other"
    series = f'{VALIDATIONS}_failures_total{{failure_type="never heard of"}} 3\n'
    found = look(a=series)
    assert value(found, name, reason="other") == 3
    assert len(values(found, name)) == 7
    assert found["sources"]["eapi-metrics"].get("why") is None


# -- identity, restarts, zeros


def start(at: float, failed: int, client: str = "c1") -> str:
    page = f'{LOGINS}_attempts_total{{clientId="{client}",success="false"}} {failed}\n'
    return f"process_start_time_seconds {at:.3f}\n{page}"


def test_instances_that_differ_in_their_path_alone_are_two(pages: Pages, tmp_path: Path) -> None:
    """Behind one host and port, and started in the same second."""
    urls = [f"{pages.url}/{name}" for name in ("a", "b")]
    look, began = Look(pages, tmp_path, METRICS_URLS={"payment-eapi": urls}), 1.79e9
    look(a=start(began, 100), b=start(began, 900))
    found = look(a=start(began, 101), b=start(began, 903))
    assert value(found, "authentication_failures_recent", client_id="all") == 4
    assert value(found, "authentication_failures_total", client_id="c1") == 4


def test_instances_of_one_url_are_two_though_they_start_in_the_same_second(
    pages: Pages, tmp_path: Path
) -> None:
    look = Look(pages, tmp_path)
    for began, failed in ((1.79e9, 100), (1.79e9 + 0.25, 900), (1.79e9, 102)):
        found = look(a=start(began, failed))
    assert value(found, "authentication_failures_recent", client_id="all") == 2


def test_counts_over_a_restart_are_marked_as_lower_bounds(pages: Pages, tmp_path: Path) -> None:
    look, minted = Look(pages, tmp_path, TOKENS), "payment_token_generation_count_total"
    good = f'{VALIDATIONS}_count_total{{valid="true"}}'
    look(a=f'{minted}{{clientId="c1"}} 500\n{good} 40\n')
    whole = look(a=f'{minted}{{clientId="c1"}} 560\n{good} 41\n')["tokens"]
    assert (whole["generation"]["services_at_least"], whole["validations"]["at_least"]) == (
        False,
        False,
    )
    after = look(a=f'{minted}{{clientId="c1"}} 5\n{good} 3\n')
    assert after["tokens"]["generation"]["services_at_least"] is True
    assert after["tokens"]["validations"]["at_least"] is True
    assert "generated_tokens_lower_bound" in said(after, "generated_tokens")


def test_uses_count_attempts_and_the_last_use_is_an_upper_bound(
    pages: Pages, tmp_path: Path
) -> None:
    look = Look(pages, tmp_path)
    with State.open(tmp_path / "state") as state, state.transaction() as tx:
        tx.execute("INSERT INTO ledger VALUES ('c1', '1', 1, 1, NULL, '')")
    first = look(a=filled(GOOD_BAD.replace("@", LOGINS), BEFORE))
    name = "authentication_failures_total"
    assert value(first, name, client_id="c1") == 0
    found = look(a=filled(GOOD_BAD.replace("@", LOGINS), NOW))
    row = found["credentials"]["c1"]
    assert (row["uses"], row["failures"], row["uses_are"]) == (60, 50, "attempts")
    assert (row["last_used_at_most"], row["uses_at_least"]) == (True, False)
