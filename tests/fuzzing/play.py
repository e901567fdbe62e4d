"""One seed from end to end: a peer turns hostile while something else is down."""

from __future__ import annotations

import base64
import contextlib
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple, Type
from urllib.parse import urlsplit

from sandbox.stack import Stack
from tests import scripts
from tests.faults.channels import alerting, told
from tests.faults.ground import Ground, Run
from tests.faults.peers import EXCEPTION_NAMES, ROWS_OF
from tests.faults.row import LOGIN, QUIET
from tests.fuzzing.nursery import Nursery
from tests.fuzzing.peers import HostileHttp, HostilePeer, HostileRedis, HostileSmtp

PASSWORD = "Zq7vRedisPassword0451"
BEARER = "Hx3-K8w2LbQz77tVbearer"
OPTIONS = replace(QUIET, redis_password=PASSWORD, preload=3)
PATIENCE = 45.0  # of a run whose cycle ends after 3 s and whose sending after 2: a busy machine
MEMORY = 150 * 1024  # kB
#: peer -> the setting that leads to it, and which kind of server it is.
PEERS: Dict[str, Tuple[str, Type[HostilePeer]]] = {
    "redis": ("REDIS_PORT", HostileRedis),
    "eapi": ("EAPI_ENDPOINT", HostileHttp),
    "sapi": ("SAPI_ENDPOINT", HostileHttp),
    "conjur": ("CONJUR_URL", HostileHttp),
    "rotation": ("ROTATION_ENDPOINT", HostileHttp),
    "slack": ("SLACK_WEBHOOK_URL", HostileHttp),
    "alertmanager": ("ALERTMANAGER_URL", HostileHttp),
    "heartbeat": ("HEARTBEAT_URL", HostileHttp),
    "smtp": ("SMTP_PORT", HostileSmtp),
}
RECEIVERS = ("slack", "pagerduty", "webhook", "smtp")


@dataclass(frozen=True)
class Case:
    """What a line of fuzz-crashes.jsonl holds: with the same kit it comes again."""

    seed: int
    peer: str
    script: str

    @classmethod
    def of(cls, seed: int) -> Case:
        dice = random.Random(f"case:{seed}")
        peer = dice.choice([*PEERS, "redis", "redis"])
        return cls(seed, peer, dice.choice(scripts.SCRIPTS))


def secrets_of(ground: Ground) -> List[str]:
    names = ("REDIS_PASSWORD", "MONITORING_AUTH_TOKEN", "CONJUR_AUTHN_API_KEY")
    names += ("MONITORING_CLIENT_SECRET", "PAGERDUTY_SERVICE_KEY")
    return [ground.env[name] for name in names]


@contextlib.contextmanager
def hostile(ground: Ground, case: Case) -> Iterator[None]:
    """The peer's setting leads to a proxy before it."""
    name, kind = PEERS[case.peer]
    usual = ground.env[name]
    target = int(usual) if usual.isdigit() else urlsplit(usual).port
    assert target is not None
    seed = f"{case.seed}:{case.peer}"
    with kind(target, seed, secrets_of(ground)) as proxy:
        ground.env[name] = usual.replace(str(target), str(proxy.port))
        yield


def grounded(stack: Stack, folder: Path) -> Ground:
    """Alerts at the first bad cycle, little time for everything."""
    stack.faults.clear()
    ground = Ground(stack, folder)
    ground.env["MONITORING_AUTH_TOKEN"] = BEARER
    alerting(ground)
    timed = ("payment-eapi", "payment-sapi", "conjur-vault", "redis-cache", "redis-scan")
    ground.setting("TIMEOUTS", dict.fromkeys(timed, "1s"))
    ground.setting("RUN", {"cycle_deadline": "4s"})
    return ground


def play(case: Case, stack: Stack, nursery: Nursery, folder: Path) -> None:
    """Raises AssertionError saying what did not hold."""
    ground = grounded(stack, folder)
    down = "sapi" if case.peer == "eapi" else "eapi"
    stack.faults.set(f"{down}-500")
    target = folder / "r.json"
    words = ["--single-run", "--output", str(target), "--verbose"]
    with hostile(ground, case):
        command = ground.command(case.script, *words)[2:]
        env = scripts.environment(ground.env)
        done = nursery.run(case.script, command, env, folder, patience=PATIENCE)
    judge(case, ground, done, down)


def judge(case: Case, ground: Ground, done: Mapping[str, Any], down: str) -> None:
    said = done["out"] + done["err"]
    assert done["status"] in (0, 1, 2, 3), f"status {done['status']}: {said[-3000:]}"
    target = ground.folder / "r.json"
    assert target.exists(), f"no result: {said[-3000:]}"
    document = json.loads(target.read_text(), parse_constant=_no_constant)
    run = Run(case.script, done["status"], done["out"], done["err"], document)
    run.check_form()
    whole = said + target.read_text()
    assert not [n for n in EXCEPTION_NAMES if n in whole], whole[-4000:]
    assert done["rss"] < MEMORY, f"{done['rss']} kB"
    _others_stand(case, run, down)
    _all_are_told(case, ground, run)
    _no_secret(ground, whole)


def _no_constant(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def _others_stand(case: Case, run: Run, down: str) -> None:
    rows = run.rows()
    mine = ROWS_OF.get(case.peer, ())
    outage = {f"payment-{down}", f"{down}-metrics"} & set(rows)
    assert outage, rows
    for name, row in rows.items():
        assert row["error"] != "internal", (name, row)
        if name in outage:
            assert not row["fine"], (name, row)
        elif name not in (*mine, LOGIN):
            assert row["fine"], (name, row)


def _all_are_told(case: Case, ground: Ground, run: Run) -> None:
    for kind in RECEIVERS:
        # one server takes what Slack, PagerDuty and the webhook are sent, under its own paths
        if kind != case.peer:
            assert told(ground, kind), f"{kind} was not told: {run.said()}"


def _no_secret(ground: Ground, said: str) -> None:
    kept = b"".join(path.read_bytes() for path in ground.state.rglob("*") if path.is_file())
    for secret in secrets_of(ground):
        for piece in _pieces(secret):
            assert piece not in said, f"{piece!r} of a secret: {_around(said, piece)}"
            assert piece.encode() not in kept, f"{piece!r} of a secret in the state"


def _around(text: str, piece: str) -> str:
    at = text.index(piece)
    return text[max(0, at - 300) : at + 300]


def _pieces(secret: str) -> Iterator[str]:
    """Nine characters in a row, or fourteen of an encoded form."""
    raw = secret.encode()
    encoded = (raw.hex(), base64.b64encode(raw).decode(), "".join(f"%{b:02X}" for b in raw))
    for text, size in ((secret, 9), *((form, 14) for form in encoded)):
        for start in range(len(text) - size + 1):
            yield text[start : start + size]
