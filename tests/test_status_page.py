"""The page about one's own system: what it may call well, what it shows, and that it is sealed."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from monitoring.analyze import REPORTS
from monitoring.catalog import SCRIPTS
from monitoring.components import COMPONENTS
from monitoring.model import Alert, AlertKey, AlertRow, Finding, Measurement, Severity, Source
from monitoring.output import pages as bars, report as outputs, status_page as status
from monitoring.output.exposition import Exporter
from monitoring.run import Pipeline
from monitoring.store.state import State, StateError
from sandbox import observers
from tests import alerting_kit as have, test_reports
from tests.alerting_kit import CRITICAL, OK, T0, WARNING, component, outcome

NOW = T0 + 1.0  # the end of a cycle that began at T0 and took a second
HOSTILE = "<script>alert(1)</script>\" onload=x 'a' &amp; \x1b[31m http://evil.test/x"


def looked(script: str = "health_check", word: str = "ok", **more: Any) -> dict[str, Any]:
    made = status.document(outcome(component(OK), script=script), 60.0)
    return {**made, "status": word, **more}


def all_three(**words: str) -> list[dict[str, Any]]:
    return [looked(script, words.get(script, "ok")) for script in SCRIPTS]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "ok"),
        ({"health_check": "unknown"}, "unknown"),
        ({"token_usage_metrics": "warning", "health_check": "unknown"}, "warning"),
        ({"credential_usage_metrics": "critical", "health_check": "warning"}, "critical"),
    ],
)
def test_the_verdict_is_the_worst_that_a_script_says(words: dict[str, str], said: str) -> None:
    assert status.verdict(all_three(**words), NOW) == said


@pytest.mark.parametrize("missing", SCRIPTS)
def test_what_nobody_looked_at_is_never_well(missing: str) -> None:
    rest = [each for each in all_three() if each["script"] != missing]
    assert status.verdict(rest, NOW) == "unknown"
    page = status.render_status(rest, {}, NOW)
    assert f">{missing}</td>" in page
    assert "has not looked" in page


@pytest.mark.parametrize(("after", "said"), [(120.0, "ok"), (120.1, "unknown")])
def test_what_a_script_saw_is_news_for_two_of_its_intervals(after: float, said: str) -> None:
    seen = [*all_three()[:2], looked(SCRIPTS[2], at=NOW - after)]
    assert status.verdict(seen, NOW) == said
    assert ("overdue" in status.render_status(seen, {}, NOW)) == (said == "unknown")


def alert(summary: str, severity: Severity = CRITICAL, state: str = "firing") -> AlertRow:
    key = AlertKey("test", "health_check", "redis-cache", summary[:9])
    return AlertRow(Alert(key, severity, summary), state, T0)


def test_what_fires_stands_first_and_says_who_was_told() -> None:
    rows = (
        alert("held back", state="suppressed"),
        alert("slow", WARNING),
        alert("down"),
        alert("over", state="resolved"),
    )
    seen = status.document(outcome(component(CRITICAL), alerts=rows), 60.0)
    page = status.render_status([seen], {rows[2].alert.key.text: ("pagerduty", "log")}, NOW)
    head = r"<h1[^>]*>test: something is broken</h1><p class=.verdict.>1 of 1 is down: redis-cache"
    assert re.search(head, page)
    assert page.index(">down</td>") < page.index(">slow</td>") < page.index(">held back</td>")
    assert "pagerduty, log" in page
    assert ">over</td>" not in page


def test_a_page_is_sealed_whatever_strangers_say(tmp_path: Path) -> None:
    found = Finding("alg_none", CRITICAL, HOSTILE, "redis-cache", client=HOSTILE, action=HOSTILE)
    row = {"verdict": "stuck", "state": HOSTILE, "why": HOSTILE}
    seen = outcome(
        component(CRITICAL, HOSTILE, message=HOSTILE),
        findings=(found,),
        alerts=(alert(HOSTILE),),
        sources=(Source(HOSTILE, ok=False, why=HOSTILE),),
        credentials={HOSTILE: row},
        tokens={"total": 1},
    )
    target = tmp_path / "status.html"
    made = status.render_status([status.document(seen, 60.0)], {}, NOW)
    outputs.write(outputs.check_target(str(target)), seen, made)
    page = target.read_text()
    assert "<script" not in page
    assert "\x1b" not in page
    assert page.count("<html") == 1
    assert "default-src 'none'" in page
    assert not re.search(r"<[^>]*\s(src|href|onload|srcset)=", page)
    assert "url(" not in page
    assert "@import" not in page


def test_any_script_shows_the_whole(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        for script in SCRIPTS[1:]:
            status.keep(state, status.document(outcome(script=script, at=T0 - 5), 300.0))
        elsewhere = replace(outcome(script="health_check"), environment="prod")
        status.keep(state, status.document(elsewhere, 300.0))
        state.put("status", "damaged", "{")
        found = status.with_others(state, looked())
        assert [each["script"] for each in found] == ["health_check", *sorted(SCRIPTS[1:])]
        seen = status.with_others(state, looked("token_usage_metrics"))
        assert {each["environment"] for each in seen} == {"test"}
    assert len(status.with_others(None, looked())) == 1


def test_the_exporter_serves_it_with_links_and_says_when_it_is_old() -> None:
    clock = have.Clock()
    exporter = Exporter("health_check", interval=60.0, deadline=30.0, ticks=lambda: clock.at)
    before = exporter.answer("/", {}).body.decode()
    assert 'href="/metrics"' in before
    exporter.show(lambda ago, note: status.render_status(all_three(), {}, NOW + ago, note))
    shown = exporter.answer("/", {}).body.decode()
    assert "all is well" in shown
    assert 'href="/metrics"' in shown
    assert "overdue" not in shown
    clock.at += 211
    old = exporter.answer("/", {}).body.decode()
    assert "overdue" in old
    assert "all is well" not in old


def test_a_page_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(template: str, **values: Any) -> str:
        raise bars.PageError(f"{template} is gone; install the scripts anew")

    monkeypatch.setattr("monitoring.output.exposition.page", gone)
    answer = Exporter("health_check", interval=60.0, deadline=30.0).answer("/", {})
    assert (answer.status, answer.body) == (
        500,
        b"landing.html is gone; install the scripts anew\n",
    )


def test_a_file_says_that_it_grows_old_and_who_was_told_may_be_unknown() -> None:
    seen = status.document(outcome(alerts=(alert("down"),)), 60.0)
    page = status.render_status([seen], None, NOW)
    assert "does not change by itself" in page
    assert ">not known</td>" in page
    assert ">nobody</td>" in status.render_status([seen], {}, NOW)


def test_the_worst_is_never_cut_off_and_the_rest_is_counted() -> None:
    mild = [Finding(f"r{n}", WARNING, f"mild {n}", "redis-cache") for n in range(60)]
    bad = Finding("worst", CRITICAL, "the one that matters", "redis-cache")
    rows = [alert(f"{n:02} slow", WARNING) for n in range(60)] + [alert("down")]
    seen = status.document(outcome(findings=(*mild, bad), alerts=tuple(rows)), 60.0)
    page = status.render_status([seen], {}, NOW)
    assert ">the one that matters</td>" in page
    assert ">down</td>" in page
    assert page.count("<p>and 11 more</p>") == 2


def test_what_was_read_in_part_is_said() -> None:
    cut = Source("redis-cache", ok=True, truncated=True)
    page = status.render_status([status.document(outcome(sources=(cut,)), 60.0)], {}, NOW)
    assert "the look ended before its end" in page
    assert "Everything that was asked answered" not in page


def test_ten_thousand_credentials_keep_the_page_short() -> None:
    rows = {f"client-{n:05}": {"verdict": "stuck", "state": "x", "why": "y"} for n in range(10_000)}
    page = status.render_status([status.document(outcome(credentials=rows), 60.0)], {}, NOW)
    assert "10000 stuck" in page
    assert "and 9950 more" in page
    assert len(page) < 50_000


# -- how it stood


@dataclass(frozen=True)
class Seen:
    """A point of history: `seconds` up to `at`, up for the share `mean` of them."""

    at: float
    seconds: float
    mean: float


HALF_HOUR = 1800.0


@pytest.mark.parametrize(
    ("watched", "mean", "word"),
    [
        (1.0, 1.0, "up"),
        (1.0, 0.99, "part"),
        (1.0, 0.51, "part"),
        (1.0, 0.5, "down"),
        (1.0, 0.0, "down"),
        (0.5, 1.0, "up"),
        (0.49, 1.0, "unknown"),
        (0.49, 0.0, "unknown"),
    ],
)
def test_a_part_of_a_bar(watched: float, mean: float, word: str) -> None:
    day, _month = bars.measure([Seen(NOW, watched * HALF_HOUR, mean)], NOW)
    assert day.parts == (*["unknown"] * 47, word)


def test_what_was_not_recorded_is_not_known_in_either_bar() -> None:
    for bar in bars.measure([], NOW):
        assert set(bar.parts) == {"unknown"}
        assert bar.whole.availability is None


def test_unknown_can_be_told_without_colour() -> None:
    past = {"redis-cache": bars.measure([Seen(NOW, HALF_HOUR, 0.0)], NOW)}
    drawn = status.render_status(all_three(), {}, NOW, past=past)
    assert 'class="down"' in drawn
    assert 'class="hole"' in drawn
    assert 'height="7"' in drawn
    assert "redis-cache, 24 h: of 48 parts 1 down, 47 unknown" in drawn
    assert "of the time watched (2 %)" in drawn


def test_nearly_always_up_is_not_always() -> None:
    points = [Seen(NOW - n * 300, 300.0, 1.0) for n in range(288, 0, -1)]
    points.append(Seen(NOW, 1.0, 0.0))
    assert bars.measure(points, NOW)[0].said.startswith("up 99.998 %")


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(0.9999, "99.99 %"), (0.9995, "99.95 %"), (1.0, "100 %"), (1.0 - 1e-12, "99.999 %"),
     (0.0, "0 %"), (-2.5, "-250 %")],
)  # fmt: skip
def test_a_share_is_cut_and_no_float_makes_it_less(ratio: float, said: str) -> None:
    assert bars.percent(ratio) == said


def test_a_history_that_cannot_be_read_is_not_an_empty_one() -> None:
    assert "Nothing is recorded yet" in status.render_status(all_three(), {}, NOW, past={})
    page = status.render_status(all_three(), {}, NOW, past=None)
    assert "what was recorded could not be read" in page
    assert "Nothing is recorded yet" not in page


class Unread:
    """A history that fails until `works`."""

    works = False

    def series(self, *_: Any) -> list[Any]:
        if not self.works:
            raise StateError("disk I/O error")
        return []


def test_the_bars_are_looked_up_again_after_a_failure_and_a_clock_set_back() -> None:
    history = Unread()
    pipeline = Pipeline(60.0, history=history)
    assert pipeline._bars(outcome(at=T0)) is None
    history.works = True
    assert pipeline._bars(outcome(at=T0 + 1)) == {}
    history.works = False
    assert pipeline._bars(outcome(at=T0 + 2)) == {}, "a recent look stands"
    assert pipeline._bars(outcome(at=T0 - 3600)) is None, "one of the future does not"


def full_page() -> str:
    past = {HOSTILE: bars.measure([Seen(NOW - 60, 600.0, 0.4)], NOW)}
    past |= {name: bars.measure([Seen(NOW, 86400.0, 1.0)], NOW) for name in COMPONENTS}
    row = alert("down")
    shown = outcome(
        component(CRITICAL, message=HOSTILE * 3),
        findings=(Finding("r", WARNING, HOSTILE, HOSTILE),),
        alerts=(replace(row, alert=replace(row.alert, runbook="redis-cache-down")),),
    )
    made = status.document(shown, 60.0, "https://wiki.example/runbooks")
    seen = {**looked(), **{k: v for k, v in made.items() if k != "at"}}
    return status.render_status([seen, *all_three()[1:]], {}, NOW, past=past)


def test_bars_stand_on_the_page_and_hostile_names_are_escaped() -> None:
    page = full_page()
    assert page.count('class="strip"') == 2 * (len(COMPONENTS) + 1)
    assert "<script>" not in page
    assert "onload=x" not in re.sub(r">[^<]*<|\"[^\"]*\"", "", page)


#: Run beside the pages: how wide each is, what it loaded, and each text that is hard to read.
_LOOK = """
const luminance = c => {
  const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 :
    Math.pow((v + .055) / 1.055, 2.4); });
  return .2126 * r + .7152 * g + .0722 * b; };
const parsed = text => { const n = (text.match(/[0-9.]+/g) || []).map(Number);
  return n.length < 3 || n[3] === 0 ? null : n.slice(0, 3); };
const behind = (view, e) => { for (; e; e = e.parentElement) {
  const found = parsed(view.getComputedStyle(e).backgroundColor); if (found) return found; }
  return [255, 255, 255]; };
const look = frame => {
  const view = frame.contentWindow, page = frame.contentDocument, hard = [];
  for (const e of page.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || e.tagName === "title" || !e.getClientRects().length) continue;
    const style = view.getComputedStyle(e);
    const ink = parsed(e.closest("svg") ? style.fill : style.color);
    const pair = [luminance(ink), luminance(behind(view, e))].sort((a, b) => b - a);
    const ratio = (pair[0] + .05) / (pair[1] + .05);
    if (ratio < 4.5) hard.push(e.textContent.trim().slice(0, 30) + " " + ratio.toFixed(2));
  }
  const dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  const loaded = view.performance.getEntriesByType("resource").map(e => e.name);
  return {wide: page.documentElement.scrollWidth, dark, loaded, hard};
};
addEventListener("load", () => document.title = "seen " +
  JSON.stringify([...document.querySelectorAll("iframe")].map(look)));
"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The files of a folder on a port of loopback: a browser keeps no book on what it loads from
    files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Nothing."""

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def looked_at(tmp_path: Path, pages: dict[str, str], width: int, *, dark: bool) -> list[Any]:
    """What a browser sees of each page in a frame of that width."""
    frames = ""
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
        frames += f'<iframe src="{name}.html" width="{width}" height="900"></iframe>'
    style = "<style>iframe { border: 0; }</style>"
    text = f"{style}{frames}<script>{_LOOK}</script>"
    (tmp_path / "frame.html").write_text(text, encoding="utf-8")
    words = [str(observers.find("chromium")), "--headless", "--no-sandbox", "--disable-gpu"]
    words += ["--disable-quic", "--no-first-run", "--disable-background-networking"]
    words += ["--disable-component-update", "--disable-sync"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
    words += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    with served(tmp_path) as url:
        done = subprocess.run(
            [*words, "--dump-dom", f"{url}/frame.html"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    found = re.search(r"<title>seen (.*?)</title>", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    seen: list[Any] = json.loads(unescape(found[1]))
    return seen


#: A page that is wrong in each of the ways that are looked for.
_BAD = (
    '<body style="background:#fff"><p style="color:#bbb">pale</p>'
    '<p style="width:3000px">wide</p><img src="not-here.png">'
)


@pytest.mark.chromium
@pytest.mark.skipif(not observers.find("chromium"), reason="chromium is not installed")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_each_page_fits_is_readable_and_asks_nobody(
    width: int, dark: bool, tmp_path: Path
) -> None:
    analysis = REPORTS["html"](test_reports.made())
    pages = {"status": full_page(), "analysis": analysis, "bad": _BAD}
    *ours, bad = looked_at(tmp_path, pages, width, dark=dark)
    for page in ours:
        assert page["dark"] is dark
        assert page["wide"] <= width, "nobody has to scroll sideways"
        assert page["loaded"] == [], "nothing is fetched from anywhere"
        assert page["hard"] == [], "contrast of 4.5 : 1 (WCAG AA)"
    assert bad["wide"] > width
    assert len(bad["loaded"]) == 1
    assert bad["hard"] == ["pale 1.92"]


# -- what it leads with, what to do, and where that is written


def test_the_page_leads_with_the_headline_and_the_first_step() -> None:
    row = alert("redis-cache is down")
    told = AlertRow(replace(row.alert, action="Start Redis.", runbook="redis-cache-down"), "firing")
    seen = outcome(component(CRITICAL), component(OK, "payment-eapi"), alerts=(told,))
    made = status.document(seen, 60.0, "https://wiki.example/runbooks/")
    page = status.render_status([made, *all_three()[1:]], {}, NOW)
    head = page.partition("</header>")[0]
    assert "1 of 2 is down: redis-cache" in head
    assert "Do first: Start Redis." in head
    assert 'href="https://wiki.example/runbooks/redis-cache-down.md"' in page
    assert "Do first" not in status.render_status(all_three(), {}, NOW).partition("</header>")[0]


def test_each_thing_is_said_once() -> None:
    stuck, new = "client-007: rotation stuck", "client-009: failed 5 times"
    found = tuple(
        Finding("rotation_stuck", CRITICAL, sentence, "rotation-service", "client-007")
        for sentence in (stuck, new)
    )
    seen = outcome(component(CRITICAL), alerts=(alert(stuck),), findings=found)
    page = status.render_status([status.document(seen, 60.0), *all_three()[1:]], {}, NOW)
    head, _, rest = page.partition("</header>")
    assert "1 of 1 is down: redis-cache" in head
    assert "1 of 1 is down: redis-cache" not in rest
    assert rest.count(">said above</td>") == 1, "the others are well, and say so themselves"
    assert page.count(f">{stuck}</td>") == 1
    assert page.count(f">{new}</td>") == 1
    only = status.document(replace(seen, findings=found[:1]), 60.0)
    assert "None but what fires." in status.render_status([only], {}, NOW)


def test_what_two_scripts_say_in_the_same_words_stands_once() -> None:
    unread = Source("sapi-metrics", False, why="no answer within 5 s")
    rows = (alert("cannot judge sapi-metrics", WARNING, "suppressed"),)
    seen = [
        status.document(outcome(alerts=rows, sources=(unread,), script=script), 60.0)
        for script in SCRIPTS[1:]
    ]
    page = status.render_status(seen, {}, NOW)
    assert page.count(">cannot judge sapi-metrics</td>") == 1
    assert page.count(">no answer within 5 s</td>") == 1


@pytest.mark.chromium
@pytest.mark.skipif(not observers.find("chromium"), reason="chromium is not installed")
def test_on_paper_nothing_is_cut_off_or_pale(tmp_path: Path) -> None:
    """A4 less its margins, printed by whoever reads dark pages."""
    paper = full_page().replace("@media print", "@media all")
    (page,) = looked_at(tmp_path, {"paper": paper}, 718, dark=True)
    assert page["wide"] <= 718
    assert page["hard"] == []


@pytest.mark.parametrize("base", ["", "javascript:alert(1)", "file:///etc"])
def test_a_link_leads_to_a_web_page_or_nowhere(base: str) -> None:
    row = alert("down")
    told = AlertRow(replace(row.alert, runbook="redis-cache-down"), "firing")
    seen = status.document(outcome(component(CRITICAL), alerts=(told,)), 60.0, base)
    assert "href" not in status.render_status([seen], {}, NOW)


def level(name: str, value: float, **labels: str) -> Measurement:
    return Measurement(f"payment_api_{name}", value, {"component": "redis-cache", **labels})


def test_service_levels_and_budgets_stand_on_the_page() -> None:
    figures = (
        level("sla_target_ratio", 0.9995),
        level("sla_availability_ratio", 0.99991, window="30d"),
        level("sla_availability_ratio", 0.5, window="24h"),
        level("error_budget_remaining_ratio", 0.82, window="30d"),
        level("sla_unknown_ratio", 0.25, window="30d"),
    )
    page = status.render_status([status.document(outcome(measurements=figures), 60.0)], {}, NOW)
    for cell in ("99.95 %", "99.991 % of the time watched (75 %)", "82 %"):
        assert f">{cell}</td>" in page, cell
    hardly = status.document(outcome(measurements=figures[:1]), 60.0)
    assert page.count(">not known</td>") == 0
    assert status.render_status([hardly], {}, NOW).count(">not known</td>") == 2
    nobody = status.render_status(
        [status.document(outcome(script="token_usage_metrics"), 60)], {}, NOW
    )
    assert "health_check.py has not looked on this state folder" in nobody


def test_the_level_of_all_together_stands_below_those_of_the_components() -> None:
    whole = Measurement("payment_api_system_sla_availability_ratio", 0.9871, {"window": "30d"})
    figures = (
        whole,
        Measurement("payment_api_system_sla_target_ratio", 0.999, {}),
        Measurement("payment_api_system_sla_unknown_ratio", 0.0, {"window": "30d"}),
        Measurement("payment_api_system_error_budget_remaining_ratio", -2.5, {"window": "30d"}),
        level("sla_target_ratio", 0.9995),
    )
    seen = status.document(outcome(measurements=figures), 60.0)
    assert [row["component"] for row in seen["levels"]] == ["redis-cache", "overall"]
    page = status.render_status([seen], {}, NOW)
    for cell in ("overall", "98.71 % of the time watched (100 %)", "-250 %"):
        assert f">{cell}</td>" in page, cell


def test_who_is_due_next_stands_on_the_page() -> None:
    rows = {"client-012": {"verdict": "ok", "state": "active", "due_in_days": 21.0, "why": "y"}}
    page = status.render_status([status.document(outcome(credentials=rows), 60.0)], {}, NOW)
    assert "1 ok; next due client-012 in 21 d" in page
