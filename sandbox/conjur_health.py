"""Conjur health: the bodies of /health, /info and /authenticators."""

from __future__ import annotations

from typing import Any

from sandbox.clock import iso_time

RELEASE = "13.10.0"
NOT_A_FOLLOWER = "Subscriptions are only available on Conjur Followers."
FREE_SPACE = {"main": {"kbytes": 11860424, "inodes": 13514528}}


def authenticators() -> dict[str, list[str]]:
    """What /authenticators says; it reads the database, so an answer means the database lives."""
    installed = ["authn", "authn-jwt", "authn-k8s", "authn-oidc"]
    enabled = ["authn", "authn-jwt/payment"]
    return {"installed": installed, "configured": enabled, "enabled": enabled}


def _standby(degraded: bool) -> dict[str, Any]:
    return {
        "application_name": "standby_conjur_standby_1_1",
        "state": "catchup" if degraded else "streaming",
        "sync_state": "async",
        "sent_lsn": "0/907AD78",
        "replay_lsn": "0/5000000" if degraded else "0/907AD78",
        "replication_lag_bytes": 67612024 if degraded else 0,
    }


def _subscription(now: float, stale: bool) -> dict[str, Any]:
    return {
        "name": "sub_follower",
        "enabled": not stale,
        "received_lsn": "0/5000000" if stale else "0/907AD78",
        "last_msg_receipt_time": iso_time(now - (7200 if stale else 1)),
        "apply_error_count": 14 if stale else 0,
        "sync_error_count": 0,
    }


def _database(role: str, *, now: float, degraded: bool, stale: bool) -> dict[str, Any]:
    follower = role == "follower"
    space = {"main": {"kbytes": 40120, "inodes": 13514528}} if degraded else FREE_SPACE
    status = {
        "pg_stat_replication": [] if follower else [_standby(degraded)],
        "pg_current_xlog_location": "0/907AD78",
        "pg_current_xlog_location_bytes": 83886176,
    }
    logical = {
        "subscriptions": [_subscription(now, stale)] if follower else NOT_A_FOLLOWER,
        "initial_replication_in_progress": False,
    }
    return {
        "ok": True,
        "connect": {"main": "ok"},
        "free_space": space,
        "replication_status": status,
        "logical_replication_status": logical,
    }


def health(role: str, *, now: float, degraded: bool, stale: bool) -> dict[str, Any]:
    """/health of an appliance. A stale follower says ok: true, as the real one does."""
    services: dict[str, Any] = {"possum": "ok", "ui": "ok", "ldap-sync": "disabled", "ok": True}
    body: dict[str, Any] = {
        "ok": True,
        "degraded": degraded,
        "role": role,
        "services": services,
        "database": _database(role, now=now, degraded=degraded, stale=stale),
        "audit": {"ok": True},
    }
    if role == "master":
        body["cluster"] = {"ok": True, "status": "running", "message": None}
    return body


def info(role: str, account: str) -> dict[str, Any]:
    """/info of an appliance."""
    return {
        "release": RELEASE,
        "version": "1.24.0",
        "role": role,
        "container": "conjur-leader",
        "services": {"possum": {"version": "1.24.0"}},
        "authenticators": authenticators(),
        "configuration": {
            "conjur": {"account": account, "cluster_name": "production", "role": role}
        },
    }
