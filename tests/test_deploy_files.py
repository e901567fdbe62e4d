"""systemd, cron, logrotate, containers, Kubernetes: their programs accept them, or their schemas
where these are not installed; and all are of one mind about names, ports and times."""

from __future__ import annotations

import grp
import gzip
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus.build import defaults
from monitoring.catalog import SCRIPTS
from monitoring.config.load import reference
from sandbox import observers
from sandbox.options import Options
from sandbox.stack import Stack
from tests.deploying import DEPLOY, ROOT

SYSTEMD = DEPLOY / "systemd"
UNITS = sorted(SYSTEMD.glob("*@.*"))
APP = "/opt/payment-api-monitoring"


def text(*parts: str) -> str:
    return DEPLOY.joinpath(*parts).read_text(encoding="utf-8")


def documents(*parts: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text(*parts)))


def settings_of(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    joined = unit.replace("\\\n", " ")
    for line in joined.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


# -- systemd


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they would lie on a machine where the scripts are this checkout's."""
    for unit in UNITS:
        made = unit.read_text(encoding="utf-8")
        made = made.replace(f"{APP}/.venv/bin/python", sys.executable).replace(APP, str(ROOT))
        (tmp_path / unit.name.replace("@", "@health_check")).write_text(
            made.replace("payment-monitor", "root").replace("%i", "health_check")
        )
    return tmp_path


@pytest.mark.systemd
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(units: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(units.iterdir()))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "payment-api" in line]
    assert said == [], done.stderr


@pytest.mark.systemd
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("kind", ["check", "exporter"])
def test_systemd_calls_the_services_safe(units: Path, kind: str) -> None:
    unit = units / f"payment-api-{kind}@health_check.service"
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze knows no --offline")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of an empty system after the first lines of deploy/systemd/README.md."""
    for folder in ("etc", "var/log", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\n")
    for kind in ("sysusers", "tmpfiles"):
        source = SYSTEMD / f"payment-api-monitoring.{kind}.conf"
        shutil.copy(source, tmp_path / "usr" / "lib" / f"{kind}.d" / "payment-api-monitoring.conf")
    words = f"systemd-sysusers --root={tmp_path} && systemd-tmpfiles --root={tmp_path} --create"
    done = subprocess.run(
        ["sh", "-c", words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.mark.systemd
@pytest.mark.skipif(
    not shutil.which("systemd-sysusers") or not shutil.which("systemd-tmpfiles") or os.getuid(),
    reason="systemd-sysusers and systemd-tmpfiles, as root",
)
def test_the_logs_are_there_and_the_monitors_before_a_service_starts(machine: Path) -> None:
    """systemd opens `append:` before it makes LogsDirectory, and makes the file as root."""
    user = (machine / "etc" / "passwd").read_text().splitlines()[1].split(":")
    assert user[0] == "payment-monitor"
    for script in SCRIPTS:
        log = (machine / "var" / "log" / "monitoring" / f"{script}.log").stat()
        assert (log.st_uid, log.st_mode & 0o777) == (int(user[2]), 0o640)
    state = (machine / "var" / "lib" / "payment-api-monitoring").stat()
    assert (state.st_uid, state.st_mode & 0o777) == (int(user[2]), 0o700)


def test_the_installation_names_what_is_there() -> None:
    readme = text("systemd", "README.md")
    for source in re.findall(r"install .*? (deploy/\S+|\.env\S+) ", readme):
        assert list(ROOT.glob(source)), source
    ports = re.findall(r"PORT=(\d+) > /etc/payment-api-monitoring/exporter-(\w+)", readme)
    scraped = documents("prometheus", "prometheus.yml")[0]["scrape_configs"][0]
    targets = [t.rpartition(":")[2] for t in scraped["static_configs"][0]["targets"]]
    assert ports == list(zip(targets, SCRIPTS))


def test_a_finding_does_not_fail_the_unit_but_blindness_does() -> None:
    unit = settings_of(text("systemd", "payment-api-check@.service"))
    assert unit["SuccessExitStatus"] == ["1 2"]
    assert unit["Type"] == ["oneshot"]
    assert unit["ExecStart"][0].endswith("%i.py --single-run")


def test_timer_cron_and_configuration_agree_on_the_interval() -> None:
    interval = defaults({}).run.cron_interval
    assert interval == 300
    assert settings_of(text("systemd", "payment-api-check@.timer"))["OnCalendar"] == ["*:0/5"]
    for minute in re.findall(r"^(\S+)\s+\* \* \* \*", text("cron", "payment-api-monitoring"), re.M):
        assert minute.endswith("/5")


def test_services_may_write_where_they_must_and_nowhere_else() -> None:
    for kind in ("check", "exporter"):
        unit = settings_of(text("systemd", f"payment-api-{kind}@.service"))
        assert unit["ProtectSystem"] == ["strict"]
        assert unit["StateDirectory"] == ["payment-api-monitoring"]
        assert unit["LogsDirectory"] == ["monitoring"]
        assert "MONITORING_STATE_DIR=/var/lib/payment-api-monitoring" in unit["Environment"][-1] + (
            " ".join(unit["Environment"])
        )
        assert unit["User"] == ["payment-monitor"]


# -- cron and logrotate


def cron_commands() -> Iterator[tuple[str, str]]:
    for line in text("cron", "payment-api-monitoring").splitlines():
        if "* * * *" in line:
            fields = line.split(None, 6)
            yield fields[5], fields[6]


def test_cron_runs_each_script_once_and_keeps_both_streams() -> None:
    rows = list(cron_commands())
    assert [user for user, _ in rows] == ["payment-monitor"] * 3
    for script, (_, command) in zip(SCRIPTS, rows):
        assert f"{script}.py --single-run >> /var/log/monitoring/{script}.log 2>&1" in command
        assert "%" not in command  # a line break to cron


def test_a_cron_command_works_as_it_stands(tmp_path: Path) -> None:
    """From a bare environment, into a log of JSON lines."""
    import json

    from tests import scripts

    with Stack(Options(clients=2, traffic=False)) as stack:
        command = next(cron_commands())[1]
        command = command.replace(f"cd {APP}", f"cd {ROOT}").replace(
            ".venv/bin/python", sys.executable
        )
        command = command.replace("/var/log/monitoring", str(tmp_path))
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **stack.environment}
        done = subprocess.run(["/bin/sh", "-c", command], env=bare, timeout=60, check=False)
    assert done.returncode == 0
    lines = scripts.check_lines((tmp_path / "health_check.log").read_text())
    assert json.loads(json.dumps(lines))[0]["service.name"] == "payment-api-monitoring"


def test_the_log_is_renamed_never_copied() -> None:
    rules = text("logrotate", "payment-api-monitoring")
    assert "/var/log/monitoring/*.log {" in rules
    active = [line.strip() for line in rules.splitlines() if not line.strip().startswith("#")]
    assert not any(line.startswith("copytruncate") for line in active)
    assert "create 0640 payment-monitor payment-monitor" in active
    assert active.count("postrotate") == active.count("endscript") == 1


@pytest.mark.systemd
@pytest.mark.skipif(not shutil.which("logrotate"), reason="logrotate is not installed")
def test_logrotate_understands_it(tmp_path: Path) -> None:
    rules = text("logrotate", "payment-api-monitoring")
    rules = rules.replace("/var/log/monitoring", str(tmp_path)).replace("payment-monitor", "root")
    (tmp_path / "rules").write_text(rules)
    (tmp_path / "x.log").write_text("{}\n")
    words = ["logrotate", "-d", "-s", str(tmp_path / "state"), str(tmp_path / "rules")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()


@pytest.mark.systemd
@pytest.mark.skipif(
    not shutil.which("logrotate") or os.getuid(), reason="logrotate, as root (it changes user)"
)
def test_logrotate_really_rotates_three_days(tmp_path: Path) -> None:
    """As an unprivileged user, into the folder that tmpfiles makes: renamed, new, compressed."""
    nobody = pwd.getpwnam("nobody")
    group = grp.getgrgid(nobody.pw_gid).gr_name
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are root's alone
    try:
        folder.chmod(0o755)
        logs = folder / "monitoring"
        logs.mkdir(mode=0o750)
        log = logs / "health_check.log"
        log.write_text('{"day":0}\n')
        for path in (logs, log):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        rules = text("logrotate", "payment-api-monitoring")
        rules = rules.replace("/var/log/monitoring", str(logs))
        rules = rules.replace("payment-monitor payment-monitor", f"nobody {group}")
        (folder / "rules").write_text(rules)
        (folder / "rules").chmod(0o644)
        for day in (1, 2, 3):
            words = ["logrotate", "-f", "-s", str(folder / "state"), str(folder / "rules")]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            assert (log.stat().st_uid, log.stat().st_size) == (nobody.pw_uid, 0)
            log.write_text(f'{{"day":{day}}}\n')
        assert {path.name for path in logs.iterdir()} == {
            "health_check.log", "health_check.log.1", "health_check.log.2.gz",
            "health_check.log.3.gz",
        }  # fmt: skip
        first = gzip.decompress((logs / "health_check.log.3.gz").read_bytes())
        assert first == b'{"day":0}\n'
    finally:
        shutil.rmtree(folder)


# -- containers


def dockerfile() -> list[tuple[str, str]]:
    joined = text("container", "Dockerfile").replace("\\\n", " ")
    rows = [line.split(None, 1) for line in joined.splitlines() if re.match(r"[A-Z]+ ", line)]
    return [(word, rest) for word, rest in rows]


def test_the_base_image_is_named_by_its_digest() -> None:
    file = text("container", "Dockerfile")
    base = re.findall(r"^ARG BASE=(\S+)$", file, re.MULTILINE)
    assert len(base) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base[0])
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", file, re.MULTILINE)
    named = {"${BASE}", *(name for _, name in stages)}
    assert {image for image, _ in stages} <= named


def test_the_image_is_not_root_and_checks_its_health() -> None:
    rows = dockerfile()
    users = [rest for word, rest in rows if word == "USER"]
    assert users[-1] == "10001:10001"
    assert users[0] == "10001:10001"
    health = next(rest for word, rest in rows if word == "HEALTHCHECK")
    assert "/-/healthy" in health
    assert rows[-1] == ("FROM", "monitoring")  # without --target: the scripts alone


def test_the_image_gets_what_it_needs_and_nothing_else() -> None:
    copied = " ".join(rest for word, rest in dockerfile() if word == "COPY")
    for part in copied.split():
        if not part.startswith(("-", "/", ".")):
            assert (ROOT / part).exists(), part
    for script in SCRIPTS:
        assert f"{script}.py" in copied
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".env", ".git", "deploy/container/secrets"} <= set(ignored)


def test_the_health_check_command_works(tmp_path: Path) -> None:
    """Against a real exporter: 0 while it serves, not 0 when it is gone."""
    health = next(rest for word, rest in dockerfile() if word == "HEALTHCHECK")
    code = re.search(r'"-c", "(.*)"\]', health)
    assert code
    with Stack(Options(clients=2, traffic=False)) as stack:
        exporter = observers.Exporter("health_check", stack.environment, tmp_path)
        try:
            ours = code.group(1).replace("127.0.0.1:9791", exporter.address)
            words = [sys.executable, "-c", ours]
            assert subprocess.run(words, timeout=30, check=False).returncode == 0
            assert urllib.request.urlopen(exporter.url, timeout=5).status == 200
        finally:
            exporter.stop()
        done = subprocess.run(words, capture_output=True, timeout=30, check=False)
        assert done.returncode != 0


def test_compose_is_valid() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    if not check.exists():
        pytest.skip("check-jsonschema is not installed (needs Python 3.11)")
    words = [str(check), "--builtin-schema", "vendor.compose-spec"]
    words.append(str(DEPLOY / "container" / "compose.yml"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_compose_mounts_what_exists_and_is_read_only() -> None:
    compose = documents("container", "compose.yml")[0]
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / "container" / source).resolve().exists(), volume
                assert volume.endswith(":ro"), volume
        if "build" in service:
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


def test_alertmanager_sees_its_own_secrets_alone() -> None:
    services = documents("container", "compose.yml")[0]["services"]
    mounted = [volume.split(":")[0] for volume in services["alertmanager"]["volumes"]]
    assert "./secrets/alertmanager" in mounted
    assert "./secrets" not in mounted
    named = set(
        re.findall(r"/etc/alertmanager/secrets/([\w-]+)", text("alertmanager", "alertmanager.yml"))
    )
    assert all(name in text("container", "compose.yml") for name in named)


@pytest.mark.parametrize("ended", ["one exporter", "the container"])
def test_the_demo_ends_as_a_whole(ended: str, tmp_path: Path) -> None:
    """Its shell script, with sleepers instead of exporters: none outlives the others."""
    (tmp_path / "python").write_text("#!/bin/sh\necho $$ >> pids\nexec sleep 60\n")
    (tmp_path / "python").chmod(0o755)
    words = ["sh", str(DEPLOY / "container" / "demo.sh")]
    shell = subprocess.Popen(words, cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    pids = tmp_path / "pids"
    while not pids.exists() or len(pids.read_text().split()) < 3:
        time.sleep(0.05)
    running = [int(pid) for pid in pids.read_text().split()]
    os.kill(running[1] if ended == "one exporter" else shell.pid, signal.SIGTERM)
    assert shell.wait(20) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in running)


def test_every_setting_that_deploy_names_exists() -> None:
    known = {row.env for row in reference()} | {"MONITORING_STATE_DIR"}
    named = set(re.findall(r"\b([A-Z][A-Z_]+)_FILE\b", text("container", "compose.yml")))
    config = next(d for d in documents("kubernetes/base", "base.yml") if d["kind"] == "ConfigMap")
    named |= {re.sub(r"_FILE$", "", name) for name in config["data"]}
    assert named <= known, named - known


# -- Kubernetes


KUBERNETES = ("base.yml", "exporters.yml", "cronjobs.yml", "podmonitor.yml")


def test_an_overlay_takes_every_part_and_names_the_environment_once() -> None:
    (base,) = documents("kubernetes/base", "kustomization.yml")
    folder = DEPLOY / "kubernetes" / "base"
    assert all((folder / name).is_file() for name in base["resources"])
    left = {path.name for path in folder.glob("*.yml")} - set(base["resources"])
    assert left == {"kustomization.yml", "cronjobs.yml"}
    settings = next(d for d in documents("kubernetes/base", "base.yml") if d["kind"] == "ConfigMap")
    for environment in ("dev", "prod"):
        path = folder.parent / "overlays" / environment / "kustomization.yml"
        overlay = yaml.safe_load(path.read_text())
        assert [(path.parent / name).resolve() for name in overlay["resources"]] == [folder]
        patch = yaml.safe_load(overlay["patches"][0]["patch"])
        assert patch["metadata"]["name"] == settings["metadata"]["name"]
        assert patch["data"]["MONITORING_ENV"] == environment
        known = {*settings["data"], "MONITORING_ENV"}
        assert set(patch["data"]) <= known, "a setting that the base does not have"
        (said,) = overlay["replacements"]
        assert said["source"]["fieldPath"] == "data.MONITORING_ENV"
        monitor = documents("kubernetes/base", "podmonitor.yml")[0]
        assert said["targets"][0]["select"] == {
            "kind": "PodMonitor", "name": monitor["metadata"]["name"],
        }  # fmt: skip
        for end in monitor["spec"]["podMetricsEndpoints"]:
            assert "environment" in [rule["targetLabel"] for rule in end["relabelings"]]


def test_an_overlay_does_not_lie_in_its_base() -> None:
    """kustomize calls that a cycle and builds nothing."""
    for overlay in (DEPLOY / "kubernetes" / "overlays").iterdir():
        for name in yaml.safe_load((overlay / "kustomization.yml").read_text())["resources"]:
            assert (overlay / name).resolve() not in overlay.resolve().parents


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_an_overlay_builds_and_says_its_environment_everywhere(environment: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    words = [kubectl, "kustomize", str(DEPLOY / "kubernetes" / "overlays" / environment)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(done.stdout)}
    assert {kind for kind, _ in made} >= {
        "Deployment",
        "PodMonitor",
        "PrometheusRule",
        "NetworkPolicy",
    }
    settings = made["ConfigMap", "payment-api-monitoring"]["data"]
    assert settings["MONITORING_ENV"] == environment
    ends = made["PodMonitor", "payment-api-monitoring"]["spec"]["podMetricsEndpoints"]
    said = [r["replacement"] for end in ends for r in end["relabelings"]
            if r["targetLabel"] == "environment"]  # fmt: skip
    assert said == [environment] * 3
    assert "said-by-the-overlay" not in done.stdout


def test_the_network_policy_lets_through_what_is_needed() -> None:
    (policy,) = documents("kubernetes/base", "networkpolicy.yml")
    deployment = documents("kubernetes/base", "exporters.yml")[0]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    served = {
        port["name"]
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    assert {port["port"] for port in policy["spec"]["ingress"][0]["ports"]} == served
    out = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert {53, 443, 6379, 8443, 9093} <= out


@pytest.mark.parametrize("name", [*KUBERNETES[:3], "networkpolicy.yml"])
def test_kubernetes_would_take_it(name: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs Python 3.11")
    for document in documents("kubernetes/base", name):
        validator.validate(document, validator.latest_version(), strict=True)


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in KUBERNETES:
        for document in documents("kubernetes/base", name):
            if document["kind"] == "Deployment":
                yield name, document["spec"]["template"]["spec"]
            if document["kind"] == "CronJob":
                yield name, document["spec"]["jobTemplate"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(("name", "pod"), list(pods()))
def test_a_pod_has_no_more_rights_than_it_needs(name: str, pod: Mapping[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    secrets = [volume for volume in pod["volumes"] if "secret" in volume]
    assert secrets[0]["secret"]["defaultMode"] == 0o440
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert "env" not in container  # secrets are files
        if name == "exporters.yml":
            assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
            port = container["ports"][0]
            assert str(port["containerPort"]) == container["args"][-1]
            assert len(port["name"]) <= 15  # Kubernetes refuses longer ones


def test_every_script_runs_in_either_way() -> None:
    for name in ("exporters.yml", "cronjobs.yml"):
        run = [c["args"][0] for file, pod in pods() if file == name for c in pod["containers"]]
        assert run == [f"{script}.py" for script in SCRIPTS]


@pytest.mark.parametrize(("status", "fails"), [(0, 0), (1, 0), (2, 0), (3, 1), (137, 1)])
def test_a_finding_does_not_fail_the_job_but_blindness_does(
    status: int, fails: int, tmp_path: Path
) -> None:
    """As the container's shell runs it, with a script that ends so."""
    (tmp_path / "python").write_text(f"#!/bin/sh\necho $@ > {tmp_path}/said\nexit {status}\n")
    (tmp_path / "python").chmod(0o755)
    container = next(pod for name, pod in pods() if name == "cronjobs.yml")["containers"][1]
    words = [*container["command"], *container["args"]]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert subprocess.run(words, env=env, timeout=30, check=False).returncode == fails
    assert (tmp_path / "said").read_text() == "token_usage_metrics.py --single-run\n"


def test_the_pod_monitor_finds_pods_and_ports() -> None:
    monitor = documents("kubernetes/base", "podmonitor.yml")[0]
    deployment = documents("kubernetes/base", "exporters.yml")[0]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ports = [
        port["name"]
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    ]
    assert [end["port"] for end in monitor["spec"]["podMetricsEndpoints"]] == ports
    targets = {
        rule["targetLabel"] for rule in monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
    }
    assert {"job", "environment", "instance"} <= targets


def test_secrets_of_the_config_map_are_mounted_files() -> None:
    config = next(d for d in documents("kubernetes/base", "base.yml") if d["kind"] == "ConfigMap")
    for name, value in config["data"].items():
        if name.endswith("_FILE"):
            assert value.startswith("/run/secrets/payment-api-monitoring/")
        assert not re.search(r"PASSWORD$|SECRET$|API_KEY$|TOKEN$", name), name


def test_no_file_of_deploy_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*"):
        if (
            path.is_file()
            and path.name != "compose.yml"
            and path.suffix in (".yml", ".conf", ".service", ".acl", "")
        ):
            for found in re.finditer(
                r"(?i)(password|api_key|secret)[\"']?\s*(?:=>|[:=])\s*(\S+)", _of(path)
            ):
                value = found.group(2).strip("\"'")
                assert value.startswith(("$", "/", "{", "&", "redis", "conjur", "payment")), (
                    path,
                    found.group(0),
                )


def _of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if os.access(path, os.R_OK) else ""
