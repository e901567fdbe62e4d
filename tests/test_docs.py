"""Links are complete both ways (alerts, runbooks, dashboards, metrics), and each leads there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from deploy.prometheus import build as prometheus_build
from deploy.prometheus.rule import Rule
from monitoring.alerts import advice, advice as advice_findings
from monitoring.catalog import METRICS, SCRIPTS, THRESHOLDS
from monitoring.config.load import reference
from sandbox import observers
from tests.deploying import DEPLOY, ROOT

DOCS = ROOT / "docs"
PAGES = {path.stem: path for path in (DOCS / "runbooks").glob("*.md") if path.stem != "README"}
UIDS = {advice.SECURITY, advice.HEALTH, advice.AUTHENTICATION}


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def alert_name(metric: str) -> str:
    return "PaymentApi" + "".join(word.capitalize() for word in metric.split("_"))


def alerts_of(page: str) -> str:
    return next(line for line in read(PAGES[page]).splitlines() if line.startswith("Alerts: "))


def rules() -> Iterator[dict[str, dict[str, str]]]:
    for path in (DEPLOY / "prometheus" / "rules").glob("*.yml"):
        for group in yaml.safe_load(read(path))["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def made_rules() -> Iterator[Rule]:
    for made in prometheus_build.groups_of_rules(prometheus_build.defaults({})).values():
        yield from made


def test_every_page_that_an_alert_links_to_exists_and_no_other() -> None:
    linked = {rule.runbook for rule in made_rules()}
    assert set(PAGES) == set(advice.runbooks()) | linked


@pytest.mark.parametrize("name", sorted(THRESHOLDS))
def test_the_page_of_a_threshold_names_its_alert(name: str) -> None:
    threshold = THRESHOLDS[name]
    assert f"`{alert_name(threshold.key)}`" in alerts_of(threshold.runbook)


@pytest.mark.parametrize("reason", sorted(advice_findings.FINDINGS))
def test_the_page_of_a_finding_names_its_alert(reason: str) -> None:
    page = advice.for_finding(reason).runbook
    assert f"`{alert_name(reason)}`" in alerts_of(page)


@pytest.mark.parametrize("pattern", [row[0] for row in advice_findings.FAMILIES])
def test_the_page_of_a_family_of_findings_names_it(pattern: str) -> None:
    page = next(row[1][2] for row in advice_findings.FAMILIES if row[0] == pattern)
    assert f"`{pattern}`" in alerts_of(page)


def test_the_page_of_a_rule_names_its_alert() -> None:
    for rule in made_rules():
        assert f"`{rule.alert}`" in alerts_of(rule.runbook), rule.alert


def test_every_alert_that_a_page_names_exists() -> None:
    known = {alert_name(threshold.key) for threshold in THRESHOLDS.values()}
    known |= {alert_name(reason) for reason in advice_findings.FINDINGS}
    known |= {rule["alert"] for rule in rules()}  # type: ignore[misc]
    known |= {alert_name("health_status"), alert_name("monitoring_blind")}
    for page in PAGES:
        named = re.findall(r"`(PaymentApi\w+)`", alerts_of(page))
        assert named or "findings" in alerts_of(page), page
        assert set(named) <= known, page


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_says_what_to_do_where_to_look_and_how_to_silence(page: str) -> None:
    text = read(PAGES[page])
    for heading in ("## What it means", "## First steps", "## Usual causes", "## Silence it"):
        assert heading in text, heading
    assert len(re.findall(r"^\d+\. ", text, re.MULTILINE)) >= 3
    uid = re.search(r"http://grafana:3000/d/([\w-]+)", text)
    assert uid
    assert uid.group(1) in UIDS
    assert "SILENCES = [" in text
    assert "amtool silence add" in text


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_silence_of_a_page_is_a_valid_setting(page: str, tmp_path: Path) -> None:
    """As it stands, but for its date."""
    from monitoring.config import load as configuration

    block = re.search(r"```python\n(SILENCES.*?)```", read(PAGES[page]), re.DOTALL)
    assert block
    later = re.sub(r'"until": "\d{4}', '"until": "2999', block.group(1))
    (tmp_path / "silence.py").write_text(later)
    loaded = configuration.load(
        script="health_check",
        root=ROOT,
        config_file=str(tmp_path / "silence.py"),
        environ={},
        cwd=tmp_path,
    )
    assert len(loaded.notifications.silences) == 1


def recipe(page: str) -> str:
    """What a page tells to type to silence its alert in Alertmanager."""
    block = re.search(r"```sh\n(amtool silence add.*?)```", read(PAGES[page]), re.DOTALL)
    assert block
    return block.group(1)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_recipe_of_a_page_silences_its_alert_and_nothing_else(page: str) -> None:
    """Silencing the cache must not silence Payment-EAPI: both alerts have the same name."""
    words = dict(word.split("=") for word in re.findall(r"(?<=\s)\w+=[\w-]+", recipe(page)))
    assert set(words) == {"alertname", "component", "environment"}
    assert f"`{words['alertname']}`" in alerts_of(page)
    match = re.search(r'"match": {(.*?)}', read(PAGES[page]))
    assert match
    of_script = re.search(r'"component": "([\w-]+)"', match.group(1))
    assert of_script is None or of_script.group(1) == words["component"]
    theirs = [rule for rule in rules() if rule["alert"] == words["alertname"]]
    places = {rule["labels"].get("component", "") for rule in theirs}
    assert not theirs or words["component"] in places or any(not p or "{" in p for p in places)


@pytest.mark.alertmanager
@pytest.mark.skipif(not shutil.which("amtool"), reason="amtool is not installed")
@pytest.mark.skipif(
    not observers.find("prometheus-alertmanager", "alertmanager"),
    reason="alertmanager is not installed (apt: prometheus-alertmanager)",
)
def test_the_recipes_work_as_they_stand(tmp_path: Path) -> None:
    """Typed into a shell, the address apart: a real Alertmanager then holds these silences."""
    manager = observers.Alertmanager(tmp_path, "http://127.0.0.1:9/webhook")
    try:
        for page in PAGES:
            typed = recipe(page).replace("http://alertmanager:9093", manager.url)
            words = ["sh", "-euc", typed]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, f"{page}: {done.stdout}{done.stderr}"
        held = json.loads(observers.get(f"{manager.url}/api/v2/silences"))
    finally:
        manager.stop()
    names = {m["value"] for row in held for m in row["matchers"] if m["name"] == "alertname"}
    assert len(held) == len(PAGES)
    assert {"PaymentApiHealthStatus", "PaymentApiExpiryCliff"} <= names


def test_units_pods_and_logs_that_pages_name_exist() -> None:
    """What somebody types at night: `systemctl`, `kubectl`, `tail` of what deploy/ installs."""
    units = {path.name.partition("@")[0] for path in (DEPLOY / "systemd").glob("*@.*")}
    manifests = "".join(read(path) for path in (DEPLOY / "kubernetes").rglob("*.yml"))
    for path in (*PAGES.values(), DOCS / "runbooks" / "README.md"):
        text = read(path)
        for unit in re.findall(r"(?:-u |restart |status )'?(payment-api-[\w-]+)", text):
            assert any(unit.rstrip("-") in name for name in units), (path.name, unit)
        for kind, name in re.findall(r"\b(deploy|cronjob)/(payment-api-[\w-]+)", text):
            wanted = "Deployment" if kind == "deploy" else "CronJob"
            assert f"kind: {wanted}\nmetadata:\n  name: {name}\n" in manifests, (path.name, name)
        for container in re.findall(r" -c (\w+) ", text):
            assert f"- name: {container}\n" in manifests, (path.name, container)
        for log in re.findall(r"/var/log/monitoring/(\w+)\.log", text):
            assert log in SCRIPTS, (path.name, log)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_names_on_a_page_exist(page: str) -> None:
    """Panels it points at, scripts and flags it has run, settings it names."""
    text = read(PAGES[page])
    titles = {
        panel["title"]
        for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")
        for panel in json.loads(read(path))["panels"]
    }
    for title in re.findall(r"(?<!\*)\*([A-Z][^*]{3,60})\*(?!\*)", text):
        assert title.rstrip("?") in {known.rstrip("?") for known in titles}, title
    for script, flag in re.findall(r"python (\w+)\.py[^`\n]*?(--[a-z-]+)", text):
        assert script in SCRIPTS
        assert flag in _flags(script), flag
    for name in re.findall(r"\$([A-Z]+_[A-Z_]+)", text):
        assert name in {row.env for row in reference()} | {"REDIS_PORT"}, name
    for metric in re.findall(r"payment_api_\w+", text):
        assert metric in METRICS


def _flags(script: str) -> set[str]:
    found = set()
    for path in (ROOT / f"{script}.py", *(ROOT / "monitoring").glob("*.py")):
        found |= set(re.findall(r"\"(--[a-z-]+)\"", read(path)))
    return found


def test_the_index_and_the_lists_of_alerts_are_what_a_build_would_make() -> None:
    """`python -m docs.build` writes them."""
    from docs import build

    assert build.files() == {path.name: read(path) for path in (DOCS / "runbooks").glob("*.md")}


def markdown() -> list[Path]:
    return [*DOCS.rglob("*.md"), *DEPLOY.rglob("*.md"), ROOT / "sandbox" / "README.md"]


@pytest.mark.parametrize("path", markdown(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_between_files_leads_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", read(path)):
        if not target.startswith("http"):
            assert (path.parent / target).resolve().exists(), target


def test_every_panel_links_to_a_page_and_every_page_hangs_on_a_panel_or_an_alert() -> None:
    linked = set()
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        linked |= set(re.findall(r"runbooks/([\w-]+)\.md", read(path)))
    assert linked <= set(PAGES)
    assert set(PAGES) <= linked | set(advice.runbooks())


def test_dashboards_that_alerts_name_are_built() -> None:
    built = {path.stem for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
    assert built == UIDS


def test_settings_that_pages_name_exist() -> None:
    """`ALERTS['group_above']` and the like."""
    known = [row.name for row in reference()]
    for path in (DOCS / "scaling.md", DOCS / "security.md", *PAGES.values()):
        for section, key in re.findall(r"`([A-Z][A-Z_]+)\[[\"'](\w+)[\"']\]", read(path)):
            wanted = f"{section}*{key}*"
            assert any(fnmatchcase(name, wanted) for name in known), (path.name, section, key)
