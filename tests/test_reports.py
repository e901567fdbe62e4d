from __future__ import annotations

import datetime as dt
import html.parser
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

from monitoring.analyze import REPORTS, html as axis, html as charts, wording
from monitoring.analyze.analysis import Analysis, Anomalous, Counted, Period, analyse, with_before
from monitoring.analyze.formats import sparkline
from monitoring.analyze.trends import Sample, Trend
from tests.token_weeks import BERLIN, END

START = END - 7 * 86400
EVIL = (
    "<script>alert(1)</script>",
    "a|b`c[x](javascript:alert(1))*_",
    "\x1b[2J\n\u202eevil\x00",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
)


def hourly(value: float, skip: range = range(0)) -> list[Sample]:
    return [
        Sample(START + h * 3600, 3600.0, value * (1 + (h % 24) / 24))
        for h in range(1, 169)
        if h not in skip
    ]


def made(**more: object) -> Analysis:
    clients = {name: hourly(1.0 + n) for n, name in enumerate(EVIL)}
    found = analyse(
        {
            "payment_api_token_generation_rate": hourly(20.0, skip=range(40, 60)),
            "payment_api_token_validation_success_ratio": [
                replace(s, value=0.999) for s in hourly(1)
            ],
        },
        clients,
        Period(START, END, BERLIN, "Europe/Berlin"),
        success_target=0.9997,
        counted=Counted(1234.0, 9990.0, 10.0, {"expired": 7.0, EVIL[0]: 3.0}),
        anomalies=[Anomalous(START + 3600, "m", f"{EVIL[0]} averaged 5", "warning")],
        notes=[f"a note with {EVIL[4]}"],
    )
    assert found is not None
    return replace(found, **more)


@pytest.fixture(params=list(REPORTS))
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_format_says_the_same(form: str) -> None:
    text = REPORTS[form](made())
    plain = re.sub(r"<[^>]+>|\\", " ", text)
    for said in ("Europe/Berlin", "99.90 %", "1,234") if form != "json" else ("Europe/Berlin",):
        assert said in plain, said
    assert text.endswith("\n")


def test_no_format_prints_a_token_or_a_control_character(form: str) -> None:
    text = REPORTS[form](made())
    assert "eyJhbGciOiJIUzI1NiJ9" not in text
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "\u202e" not in text


class _Parsed(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_is_self_contained_and_hostile_names_stay_text() -> None:
    page = REPORTS["html"](made())
    parsed = _Parsed()
    parsed.feed(page)
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "img", "iframe", "link", "object"}
    for tag, attributes in parsed.tags:
        outside = {"src", "href", "onerror", "onload", "onclick"} & set(attributes)
        assert not outside, (tag, attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert page.count("<svg") == 2


def test_markdown_tables_keep_their_shape_whatever_a_client_is_called() -> None:
    text = REPORTS["markdown"](made())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for row in rows:
        assert row.endswith("|")
        assert len(re.findall(r"(?<!\\)\|", row)) in (3, 4), row
    assert "\\<script>" in text
    assert "\\[x](" in text


def test_json_has_iso_times_and_numbers() -> None:
    found = json.loads(REPORTS["json"](made()))
    assert found["start"] == dt.datetime.fromtimestamp(START, dt.timezone.utc).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    assert found["success"] == pytest.approx(0.999)
    assert found["meets_target"] is False
    assert found["figures"][0]["gaps"][0]["start"].endswith("Z")
    assert found["clients"][0]["first_seen"].endswith("Z")


def test_text_fits_a_terminal_and_shows_gaps_as_dots() -> None:
    text = REPORTS["text"](made())
    assert "·" in text
    assert "In the charts a dot is time in which nobody looked." in text
    assert "not watched" in text
    for line in text.splitlines():
        assert len(line) < 140


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([0.0, 7.0], "▁█"),
        ([None, 1.0, None], "·▄·"),
        ([0.9995, 0.9995000000000001], "▄▄"),
        ([], ""),
    ],
)
def test_sparklines(steps: list[float | None], wanted: str) -> None:
    assert sparkline(steps) == wanted


@pytest.mark.parametrize(
    ("low", "high", "ceiling"),
    [
        (0, 0, None), (5, 5, None), (0.9995, 0.9995, 1.0), (1.0, 1.0, 1.0), (0.9, 0.99999, 1.0),
        (-3, 8, None), (1e-9, 1e-3, None), (0.02, 0.020000000000000004, 1.0), (1e12, 3e12, None),
    ],
)  # fmt: skip
def test_scales_cover_what_they_show(low: float, high: float, ceiling: float | None) -> None:
    ticks = charts.scale(low, high, ceiling=ceiling)
    assert len(ticks) >= 2
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= low + 1e-12
    assert high <= ticks[-1] + 1e-12
    assert ceiling is None or ticks[-1] <= ceiling


def test_marks_stand_at_midnights_also_when_clocks_change() -> None:
    start = dt.datetime(2026, 10, 22, tzinfo=BERLIN).timestamp()
    end = dt.datetime(2026, 10, 28, tzinfo=BERLIN).timestamp()
    marks = axis.marks(start, end, BERLIN)
    assert [text for _, text in marks] == [f"{day} Oct" for day in range(22, 28)]
    times = [start + share * (end - start) for share, _ in marks]
    assert {dt.datetime.fromtimestamp(at, BERLIN).hour for at in times} == {0}


@pytest.mark.parametrize("hours", [0.1, 1, 7, 30, 200, 2000, 90000])
def test_marks_are_few_and_inside(hours: float) -> None:
    marks = axis.marks(END - hours * 3600, END, dt.timezone.utc)
    assert 1 <= len(marks) <= 12
    assert all(0 <= share < 1 for share, _ in marks)


@pytest.mark.parametrize(
    ("trend", "said"),
    [
        (Trend(True, "", 0.12, 0.08, 0.15), "rising 12 %/day (8 to 15)"),
        (Trend(True, "", -0.012, -0.02, -0.004), "falling 1.2 %/day (0.4 to 2.0)"),
        (Trend(False, "?", 0.0, -0.056, 0.018), "no trend can be told: -5.6 % to +1.8 % a day"),
        (Trend(False, "?", 0.0, 0.0, 0.0), "steady"),
        (
            Trend(False, "no trend can be told from 9 samples"),
            "no trend can be told from 9 samples",
        ),
    ],
)
def test_trends_in_words(trend: Trend, said: str) -> None:
    assert wording.trend(trend) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 failures"), (1, "1 failure"), (0.034, "0.034 failures"), (1.25, "1.2 failures"),
     (1234.5, "1,234 failures"), (-0.2, "-0.2 failures")],
)  # fmt: skip
def test_numbers(value: float, said: str) -> None:
    assert wording.number(value, "failures") == said


def test_marks_of_the_value_axis_are_exact_and_fit_beside_the_chart_on_a_phone() -> None:
    for low, high in ((0.9994, 0.9995), (0.7, 1.0), (0.0, 0.03), (0.0, 0.0004)):
        ticks = charts.scale(low, high, ceiling=1.0)
        said = [wording.tick(tick, "ratio") for tick in ticks]
        assert [float(text.rstrip("%")) / 100 for text in said] == pytest.approx(ticks)
        assert max(map(len, said)) <= 8
    assert [wording.tick(tick, "") for tick in charts.scale(0, 0.1)][:3] == ["0", "0.025", "0.05"]


def test_of_a_figure_that_never_changed_no_hour_is_the_busiest() -> None:
    flat = [replace(sample, value=42.0) for sample in hourly(1.0)]
    found = analyse(
        {"payment_api_token_generation_rate": flat},
        {},
        Period(START, END, BERLIN, "Europe/Berlin"),
        success_target=0.9997,
    )
    assert found is not None
    facts = dict(wording.facts(found.figures[0], found))
    assert facts["always"] == "42 tokens/min"
    assert facts["trend"] == "steady"
    assert not {"highest", "lowest", "busiest hours"} & set(facts)


def test_success_in_words_whether_met_missed_or_unknown() -> None:
    assert "misses the target of 99.97 %" in wording.success(made())
    assert "meets the target" in wording.success(made(success=0.9999, verdict="met"))
    assert "is unknown" in wording.success(made(success=None, verdict="unknown"))
    little = {"verdict": "unknown", "why": "too little watched (0.1 %)"}
    said = wording.success(made(success=0.9999, **little))
    assert "99.99 %" in said
    assert "unknown: too little watched (0.1 %)" in said
    assert "meets" not in said


# -- in a browser


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(REPORTS["html"](made()), encoding="utf-8")
    return path


def browse(chromium: str, page: Path, *words: str) -> str:
    quiet = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--hide-scrollbars", f"--user-data-dir={page.parent / 'profile'}"),
    )
    done = subprocess.run(
        [chromium, *quiet, *words, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@pytest.mark.chromium
@pytest.mark.parametrize(
    ("size", "scheme"), [("1100,1400", 1), ("1100,1400", 0), ("390,1400", 1), ("390,1400", 0)]
)
def test_a_browser_draws_it(chromium: str, page: Path, size: str, scheme: int) -> None:
    shot = page.parent / "shot.png"
    dark = (f"--blink-settings=preferredColorScheme={scheme}",)
    browse(chromium, page, f"--window-size={size}", f"--screenshot={shot}", *dark)
    assert shot.stat().st_size > 20_000


@pytest.mark.chromium
def test_a_browser_runs_nothing_of_what_clients_are_called(chromium: str, page: Path) -> None:
    dom = browse(chromium, page, "--dump-dom")
    assert dom.count("<svg") == 2
    assert "<script" not in dom
    assert "<img" not in dom
    assert 'class="line"' in dom


def test_the_page_shows_target_the_time_before_and_what_was_out_of_habit_in_its_charts() -> None:
    found = made()
    rate, ratio = found.figures
    at = found.start + (found.end - found.start) / 2
    strange = Anomalous(at, rate.metric, "half as many as usual", "critical")
    full = replace(
        found,
        figures=(replace(rate, before=(20.0,) * len(rate.steps)), ratio),
        anomalies=(*found.anomalies, strange),
        environment="prod",
        version="9.9",
    )
    page = REPORTS["html"](full)
    assert "prod, version 9.9" in page
    assert page.count('class="before"') == 1
    assert page.count('class="target"') == 1
    assert "dashed: the target of 99.97 %" in page
    assert "thin: the 7 d before" in page
    assert "<title>half as many as usual</title>" in page
    summary = page.partition("</section>")[0]
    assert "out of habit; the worst: half as many as usual" in summary
    for form in ("text", "markdown"):
        assert "prod, version 9.9" in REPORTS[form](full)
    plain = REPORTS["html"](replace(found, anomalies=()))
    assert 'class="before"' not in plain
    assert 'class="mark"' not in plain
    assert "out of habit;" not in plain


def test_the_time_before_is_taken_from_just_before_and_is_nothing_where_nothing_is_known() -> None:
    period = Period(1000.0, 2000.0)
    figure = made().figures[0]
    known = [Sample(at, 100.0, 7.0, 7.0, 7.0) for at in (100.0, 500.0, 900.0, 1000.0, 1500.0)]
    drawn = with_before(figure, known, period)
    assert len(drawn.before) == len(figure.steps)
    assert set(drawn.before) == {7.0, None}
    assert with_before(figure, known[4:], period).before == ()


@pytest.mark.parametrize(
    ("values", "unit", "ceiling"),
    [
        ((1866.0, 1866.3), "tokens", None),
        ((0.023579, 0.02358), "ratio", 1.0),
        ((0.9999951, 0.9999952), "ratio", 1.0),
        ((0.0, 0.0), "ratio", 1.0),
    ],
)
def test_no_two_lines_of_a_chart_have_the_same_label(
    values: tuple[float, float], unit: str, ceiling: Optional[float]
) -> None:
    drawn = charts.line(
        "Live tokens", values, (), ceiling=ceiling, tooltip=lambda *_: "",
        value_label=lambda value: wording.tick(value, unit),
    )  # fmt: skip
    assert drawn is not None
    labels = [label for _, label in drawn.grid]
    assert len({*labels}) == len(labels) >= 2
