"""The Filebeat, Elasticsearch and Logstash files fit the lines that the scripts really write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.deploying import DEPLOY

HERE = DEPLOY / "filebeat"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of every script: when all is well and verbose, in trouble, and refusing its settings."""
    folder = tmp_path_factory.mktemp("logs")
    told: list[str] = []
    with Stack(Options(clients=3, traffic=False, preload=5)) as stack:
        env = {**stack.environment, "MONITORING_STATE_DIR": str(folder / "state")}
        for script in scripts.SCRIPTS:
            told += _said(script, "--single-run", "--verbose", env=env, cwd=folder)
        stack.faults.set("redis-refused")
        stack.faults.set("slack-500")
        for _ in range(2):
            told += _said("health_check", "--single-run", "--debug", env=env, cwd=folder)
        told += _said("health_check", "--test-alerts", env=env, cwd=folder)
        told += _said("health_check", "--intervall", "5", env=env, cwd=folder)
        told += _said("health_check", "--check-config", env=env, cwd=folder)
    return scripts.lines("\n".join(told))


def _said(script: str, *words: str, env: Mapping[str, str], cwd: Path) -> list[str]:
    done = scripts.run(script, *words, env=env, cwd=cwd)
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


def load(name: str) -> Any:
    text = (HERE / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith("json") else yaml.safe_load(text)


def paths(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield from paths(item, f"{before}{name}.")
        else:
            yield f"{before}{name}", item


def mapping_of(path: str) -> str:
    """The type that the index template gives a field, '' for none."""
    node = load("index-template.json")["template"]["mappings"]
    for part in path.split("."):
        if node.get("type") == "flattened":
            return "flattened"
        node = node.get("properties", {}).get(part)
        if node is None:
            return ""
    return str(node.get("type", ""))


#: Moved or removed by the ingest pipeline.
MOVED = {"payment_api.details"}
FITS = {
    "keyword": str,
    "match_only_text": str,
    "wildcard": str,
    "date": str,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "boolean": bool,
    "flattened": object,
}


#: Names and types of the fields that are used, of those that Elastic publishes
#: (https://www.elastic.co/docs/reference/ecs, 8.11); what is not among them is our own.
ECS = json.loads((scripts.ROOT / "tests" / "data" / "ecs-fields.json").read_text())
OURS = ("payment_api.", "application", "labels.")


def mapped(node: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, below in node.get("properties", {}).items():
        if "type" in below:
            yield f"{before}{name}", below["type"]
        yield from mapped(below, f"{before}{name}.")


def test_what_ecs_names_has_the_type_that_ecs_gives_it() -> None:
    found = dict(mapped(load("index-template.json")["template"]["mappings"]))
    for path, kind in found.items():
        if path.startswith(OURS) or path == "labels":
            continue
        assert ECS.get(path) == kind, path


def test_the_lifecycle_is_that_of_the_template() -> None:
    settings = load("index-template.json")["template"]["settings"]
    assert settings["index.lifecycle.name"] == "payment-api-monitoring"
    phases = load("lifecycle.json")["policy"]["phases"]
    assert phases["delete"]["actions"] == {"delete": {}}
    assert "rollover" in phases["hot"]["actions"]


def test_every_field_of_a_line_is_mapped_and_fits(lines: list[dict[str, Any]]) -> None:
    seen = {(path, type(value)) for line in lines for path, value in paths(line)}
    assert len(lines) > 20
    assert {"error.type", "payment_api.component", "event.duration"} & {path for path, _ in seen}
    for path, kind in seen:
        if path in MOVED or kind is type(None):
            continue
        assert mapping_of(path), f"{path} is not mapped"
        wanted = FITS[mapping_of(path)]
        if kind is list:  # of one value or several; Elasticsearch has no type of its own for it
            continue
        assert issubclass(kind, wanted), f"{path}: {kind} does not fit {mapping_of(path)}"


def test_every_line_has_what_the_inputs_need(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["@timestamp"])
        assert line["log.level"] in ("debug", "info", "warning", "error", "critical")
        assert isinstance(line["message"], str)
        assert "application" not in line  # Filebeat adds it


def test_a_line_is_long_enough_for_a_fingerprint(lines: list[dict[str, Any]]) -> None:
    """filestream tells files apart by their first bytes. Three exporters that start in the same
    millisecond must differ in them, and a file of one line must ship."""
    stream = load("filebeat.yml")["filebeat.inputs"][0]
    length = stream["prospector.scanner.fingerprint.length"]
    texts = [
        json.dumps({**line, "@timestamp": lines[0]["@timestamp"]}, separators=(",", ":"))
        for line in lines
    ]
    assert min(map(len, texts)) > length
    scripts_of: dict[str, set[str]] = {}
    for line, told in zip(lines, texts):
        scripts_of.setdefault(told[:length], set()).add(line["event.dataset"])
    assert [head for head, found in scripts_of.items() if len(found) > 1] == []
    assert "/var/log/monitoring/*.log.1" in stream["paths"]


def test_filestream_as_it_must_be() -> None:
    stream = load("filebeat.yml")["filebeat.inputs"][0]
    assert stream["type"] == "filestream"
    assert stream["id"]
    parser = stream["parsers"][0]["ndjson"]
    assert parser["expand_keys"] is True
    assert parser["message_key"] == "message"


def test_the_log_input_is_the_briefs_and_says_that_it_is_deprecated() -> None:
    log = load("filebeat-log-input.yml")["filebeat.inputs"][0]
    assert log["type"] == "log"
    assert log["allow_deprecated_use"] is True
    assert log["paths"] == ["/var/log/monitoring/*.log"]
    assert log["fields"] == {"application": "payment-api-monitoring"}
    assert (log["fields_under_root"], log["json.keys_under_root"]) == (True, True)
    assert log["json.message_key"] == "message"


def test_nothing_needs_patterns() -> None:
    for name in ("ingest-pipeline.json", "logstash.conf"):
        text = (HERE / name).read_text(encoding="utf-8").lower()
        assert not re.search(r"\"grok\"|\bgrok\s*\{|dissect", text)


def test_the_pipeline_is_used_by_template_and_input() -> None:
    settings = load("index-template.json")["template"]["settings"]
    assert (
        settings["index.default_pipeline"]
        == load("filebeat.yml")["output.elasticsearch"]["pipeline"]
    )
    kinds = [next(iter(step)) for step in load("ingest-pipeline.json")["processors"]]
    assert kinds[0] == "dot_expander"


def test_logstash_braces_are_even() -> None:
    text = re.sub(r"#.*|'[^']*'|\"[^\"]*\"", "", (HERE / "logstash.conf").read_text())
    assert text.count("{") == text.count("}")
    assert re.findall(r"^(\w+) \{", text, re.MULTILINE) == ["input", "filter", "output"]
