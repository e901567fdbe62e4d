"""The dashboards: built from the catalogue, every panel of the brief there, every link leads
somewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from monitoring.catalog import METRICS
from tests.deploying import DEPLOY, ROOT, histogram_base, metrics_in

HERE = DEPLOY / "grafana"
UIDS = ("payment-api-security", "payment-api-health", "payment-api-auth")
BOARDS = {uid: json.loads((HERE / "dashboards" / f"{uid}.json").read_text()) for uid in UIDS}


def panels(uid: str) -> Iterator[dict[str, Any]]:
    return (panel for panel in BOARDS[uid]["panels"] if panel["type"] != "row")


EVERY = [
    pytest.param(panel, id=f"{uid}-{panel['id']}-{panel['title']}")
    for uid in UIDS
    for panel in panels(uid)
]


def test_the_files_are_what_a_build_would_make() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="needs Python 3.11 and the SDK")
    from deploy.grafana import build

    made = build.files(build.defaults({}))
    kept = {f"dashboards/{path.name}": path.read_text() for path in HERE.glob("dashboards/*")}
    assert kept == made


def test_no_panel_can_name_what_is_not_exported() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="needs Python 3.11 and the SDK")
    from deploy.grafana import kit

    with pytest.raises(KeyError, match="payment_api_invented"):
        kit.series("invented")
    with pytest.raises(ValueError, match="has no label client"):
        kit.series("health_status", client="x")
    with pytest.raises(ValueError, match="is no counter"):
        kit.per_second("health_status")


@pytest.mark.parametrize("panel", EVERY)
def test_a_panel(panel: dict[str, Any]) -> None:
    """Says what it shows, asks for exported metrics of the environment chosen only."""
    assert len(panel["description"]) > 10
    pages = re.findall(r"runbooks/([\w-]+)\.md", panel["description"])
    assert all((ROOT / "docs" / "runbooks" / f"{page}.md").exists() for page in pages)
    assert panel["targets"]
    for target in panel["targets"]:
        expr = target["expr"].replace("${window}s", "20m")
        names = {name if name in METRICS else histogram_base(name) for name in metrics_in(expr)}
        assert names, expr
        assert names <= {*METRICS, "ALERTS"}, expr
        assert expr.count("{") == expr.count('environment=~"$environment"'), expr
        for name in names:
            if "ALERTS" in names:  # which has labels of its own
                continue
            labels = set(METRICS[name].labels) | {"environment", "le"}
            used = re.findall(r"by \(([^)]*)\)", expr) + re.findall(r"([a-z_]+)(?:=~|=)\"", expr)
            if len(names) == 1:
                assert {part for text in used for part in text.split(", ")} <= labels, expr
        assert target["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("uid", UIDS)
def test_a_dashboard_leads_on(uid: str) -> None:
    board = BOARDS[uid]
    assert board["uid"] == uid
    links = {link["url"] for link in board["links"]}
    assert {f"/d/{other}" for other in UIDS if other != uid} <= links
    assert not any("runbooks" in link for link in links), "nobody said where they can be read"
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names[:2] == ["datasource", "environment"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


@pytest.mark.parametrize("uid", UIDS)
def test_what_fires_stands_at_the_top_with_its_cause(uid: str) -> None:
    first = next(panels(uid))
    assert first["title"] == "What fires now, and why"
    assert "payment_api_component_error" in first["targets"][0]["expr"]
    assert first["fieldConfig"]["defaults"]["noValue"] == "no firing alert is recorded"


def test_a_client_of_a_panel_leads_to_all_that_is_known_of_it() -> None:
    for uid in UIDS:
        for panel in panels(uid):
            if any(target.get("legendFormat") == "{{client_id}}" for target in panel["targets"]):
                (link,) = panel["fieldConfig"]["defaults"]["links"]
                assert link["url"].startswith("/d/payment-api-auth?var-client="), panel["title"]


def test_every_panel_says_what_it_means_that_there_is_nothing() -> None:
    for uid in UIDS:
        assert all(panel["fieldConfig"]["defaults"]["noValue"] for panel in panels(uid))


def test_in_rotation_means_between_two_secrets() -> None:
    (panel,) = [p for p in panels("payment-api-security") if p["title"] == "In rotation"]
    assert "active" not in re.findall(r'state=~"([^"]*)"', panel["targets"][0]["expr"])[0].split(
        "|"
    )


def test_rotations_and_alerts_are_marked_on_every_board() -> None:
    for board in BOARDS.values():
        marks = {mark["name"] for mark in board["annotations"]["list"]}
        assert {"Alerts", "Rotations"} <= marks
        (rotations,) = [m for m in board["annotations"]["list"] if m["name"] == "Rotations"]
        assert rotations["expr"].count("by (environment, client_id)") == 2


def test_what_two_ports_serve_counts_once() -> None:
    """No sum over the targets: each sum is of a `max by` the metric's own labels."""
    for uid in UIDS:
        for panel in panels(uid):
            for target in panel["targets"]:
                for summed in re.findall(r"\bsum(?: by \([^)]*\))? ?\((.{12})", target["expr"]):
                    assert summed.startswith("max by (env") or "_bucket" in target["expr"]


def test_it_is_the_present_grafanas_schema() -> None:
    """41 is that of Grafana 12; older ones are migrated on loading, newer ones refused."""
    for board in BOARDS.values():
        assert board["schemaVersion"] == 41
        assert "style" not in board


def test_tables_show_what_differs_from_row_to_row() -> None:
    tables = [panel for uid in UIDS for panel in panels(uid) if panel["type"] == "table"]
    assert tables
    for panel in tables:
        shown = {step["id"]: step["options"] for step in panel["transformations"]}
        assert shown["organize"]["excludeByName"]["Time"] is True
        assert "Value" in {
            **shown["organize"]["excludeByName"],
            **shown["organize"]["renameByName"],
        }


#: The brief's "Dashboards" section -> metrics that show it, by dashboard.
BRIEF = {
    "payment-api-security": {
        "Authentication success/failure rates": [
            "authentication_success_ratio",
            "authentication_failure_ratio",
            "authentication_failures_total",
        ],
        "Token validation metrics": [
            "token_validations_total",
            "token_validation_failures_total",
            "token_validation_success_ratio",
        ],
        "Credential rotation status": [
            "credential_verdicts",
            "credential_rotation_state",
            "credential_rotated_timestamp_seconds",
        ],
        "Security anomalies": ["credential_access_anomalies", "findings", "unknown_client_ids"],
    },
    "payment-api-health": {
        "Component availability": ["health_status", "sla_availability_ratio"],
        "Response times": ["response_time_ms", "response_time_seconds"],
        "Error rates": ["service_error_ratio"],
        "Resource utilization": [
            "service_cpu_ratio",
            "service_memory_used_ratio",
            "redis_memory_used_ratio",
        ],
    },
    "payment-api-auth": {
        "Token generation and validation rates": [
            "token_generation_rate",
            "token_validations_total",
        ],
        "Token lifecycle metrics": [
            "token_lifetime_seconds",
            "tokens_expiring",
            "token_renewals",
        ],
        "Client authentication patterns": [
            "client_tokens_active",
            "authentication_attempts_total",
        ],
        "Authentication latency": ["response_time_ms", "authentication_step_seconds"],
    },
}


@pytest.mark.parametrize("uid", UIDS)
def test_every_panel_of_the_brief_is_there(uid: str) -> None:
    drawn = {
        histogram_base(name) if name not in METRICS else name
        for panel in panels(uid)
        for target in panel["targets"]
        for name in metrics_in(target["expr"])
    }
    for wanted, metrics in BRIEF[uid].items():
        assert {f"payment_api_{name}" for name in metrics} <= drawn, wanted


def test_thresholds_of_the_configuration_are_drawn() -> None:
    limits = {
        panel["title"]: [
            step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        ]
        for panel in panels("payment-api-health")
    }
    assert limits["Services"] == [None, 300, 500]
    assert limits["Vault"] == [None, 100, 250]
    assert limits["Certificates"] == [None, 7 * 86400, 30 * 86400]
    assert limits["Memory of the cache"] == [None, 0.8, 0.95]


def test_every_exported_metric_is_drawn_or_said_not_to_be() -> None:
    """Both ways: what we export and nobody draws is either unneeded or forgotten."""
    drawn = {
        name if name in METRICS else histogram_base(name)
        for uid in UIDS
        for panel in panels(uid)
        for target in panel["targets"]
        for name in metrics_in(target["expr"])
    }
    assert set(METRICS) - drawn == NOT_DRAWN


NOT_DRAWN = {
    "payment_api_system_error_budget_burning",
    "payment_api_error_budget_burning",  # judges our alert; its burn rates are drawn
    "payment_api_figures_stale",  # a mark on one port's page; that a script is silent is an alert
    # Drawn by the times that they are counted from or to, which do not stand still.
    "payment_api_credential_age_seconds",
    "payment_api_credential_due_seconds",
    "payment_api_tls_certificate_remaining_seconds",
    "payment_api_token_lineage_whole_since_timestamp_seconds",  # the state is drawn
    "payment_api_component_http_status",  # says why in the alert's summary
    "payment_api_component_degraded",  # an alert; the timeline shows what is down
    "payment_api_cycle_interval_seconds",  # says what rates look back on
    "payment_api_alert_flapping",  # holds the rules; what fires is drawn
    "payment_api_build_info",  # fills the environment variable
    "payment_api_cycles_total",  # for ad-hoc questions; the status panel says the same
}


def test_provisioning_finds_the_dashboards() -> None:
    folder = HERE / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())
    kinds = {row["type"]: row for row in source["datasources"]}
    assert kinds["prometheus"]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((folder / "dashboards" / "payment-api.yml").read_text())
    compose = (DEPLOY / "container" / "compose.yml").read_text()
    assert provider["providers"][0]["options"]["path"] in compose
