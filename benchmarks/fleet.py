"""Acquire: what a cycle costs with 10,000 clients and 1,000,000 keys.

    python -m benchmarks.fleet [--clients 10000] [--keys 1000000] [--rounds 3] [--patient]

A sandbox stack whose cache holds that many live JWTs. Every script's `--single-run` is a process of
its own, as cron starts them, on one state folder: the token script looks, then the credential
script first with what the token script counted ("shared"), then with a state of its own that has
nothing of the kind ("alone"). CPU is of the whole process, start and end included; memory is the
kernel's own mark of its peak. The first round, in which the rotation service is asked for each
client, is told apart. Beside it stands the bare wire (SCAN and MGET of the same cache, replies
dropped): where others work too, CPU in units of it is what can be compared. With `--patient` no
look is ended by the time that a cycle may take, as such a machine would need. The share of a census
is the credential script's CPU for its cache beside the token script's for a census, each over what
the same script costs with a cache that holds no token.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import scan
from sandbox.options import Options
from sandbox.stack import Stack

ROOT = Path(__file__).resolve().parents[1]
TOKENS, CREDENTIALS, HEALTH = "token_usage_metrics", "credential_usage_metrics", "health_check"
SECONDS, MEGABYTES, SHARE = 10.0, 150.0, 1 / 3
LIFE = 3600


@dataclass(frozen=True)
class Run:
    """One run of a script: seconds by the clock and of its CPU, its peak of memory, and what it
    says of the cache."""

    seconds: float
    cpu: float
    megabytes: float
    cache: dict[str, object]


def run_script(name: str, environment: dict[str, str], state: Path) -> Run:
    """`--single-run` in a process of its own."""
    document = state.parent / f"{name}.json"
    command = [sys.executable, str(ROOT / f"{name}.py"), "--single-run", "--no-alerts"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--output", str(document)],
        env={**environment, "MONITORING_STATE_DIR": str(state)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    peak, done = 0.0, (0, 0, None)
    while not done[0]:
        peak = max(peak, _peak(process.pid))
        time.sleep(0.01)
        done = os.wait4(process.pid, os.WNOHANG)  # type: ignore[assignment]
    process.returncode = os.waitstatus_to_exitcode(done[1])
    seconds, used = time.perf_counter() - started, resource.struct_rusage(done[2] or ())
    sources = json.loads(document.read_text())["sources"]
    return Run(seconds, used.ru_utime + used.ru_stime, peak, sources.get("redis"))


def _peak(pid: int) -> float:
    """MB; ru_maxrss would begin with what this process had when it started the other one."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0


def bare_wire(port: int) -> float:
    """CPU seconds of reading all of the cache and dropping it."""
    return scan.run("bare", "jwt", port, 500)["cpu"]


def fill(stack: Stack, keys: int) -> None:
    """Live tokens of all clients, and EAPI's cached credentials."""
    clients, dice = stack.options.client_ids(), random.Random(20261123)
    now = int(stack.now())
    with stack.redis_client() as client:
        wire = client.pipeline(transaction=False)
        for number in range(keys):
            issued = now - dice.randrange(0, LIFE - 300)
            jti = f"{dice.getrandbits(64):016x}-{number:012d}"
            claims = {
                "sub": clients[number % len(clients)],
                "iss": "payment-eapi",
                "aud": "payment-sapi",
                "exp": issued + LIFE,
                "iat": issued,
                "jti": jti,
                "permissions": ["process_payment", "view_status"],
            }
            wire.set(f"token_id:{jti}", scan.jwt(claims), ex=86400)
            if number % 5000 == 0:
                wire.execute()
        wire.execute()


def busy(stack: Stack) -> None:
    """Counters of logins, and a cached credential, of every client."""
    for client in stack.options.client_ids():
        stack.eapi.metrics.authentication(client, True)
        stack.eapi.metrics.generated(client, 0.004)
        if stack.eapi.cache is not None:
            stack.eapi.cache.store_credential(stack.book.credential(client))


def clear(stack: Stack) -> None:
    with stack.redis_client() as client:
        client.flushall()


def measure(
    stack: Stack, overlay: Path, rounds: int, label: str
) -> tuple[dict[str, list[Run]], dict[str, Run]]:
    """Rounds of each script, the token script first; and what the very first of each took."""
    folder = overlay.parent
    environment = {**os.environ, **stack.environment, "PYTHONPYCACHEPREFIX": str(folder / "pyc")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a deployed script is compiled once
    environment["MONITORING_CONFIG"] = str(overlay)
    names = ("tokens", "shared", "alone", "health")
    found: dict[str, list[Run]] = {name: [] for name in names}
    together, apart = folder / label / "together", folder / label / "apart"
    together.parent.mkdir()
    for number in range(rounds + 1):
        made = {
            "tokens": run_script(TOKENS, environment, together),
            "shared": run_script(CREDENTIALS, environment, together),
            "alone": run_script(CREDENTIALS, environment, apart),
            "health": run_script(HEALTH, environment, together),
        }
        if number == 0:
            first = made
        if number or not rounds:
            for name, run in made.items():
                found[name].append(run)
    return found, first


def settings_file(stack: Stack, folder: Path, patient: bool) -> Path:
    """The stack's own settings, and with `patient` time for every look."""
    content = json.loads(Path(stack.environment["MONITORING_CONFIG"]).read_text())
    if patient:
        content["RUN"] = {"cycle_deadline": "10m", "cron_interval": "30m"}
        content["MONITORING_INTERVALS"] = dict.fromkeys((TOKENS, CREDENTIALS, HEALTH), "30m")
    overlay = folder / "overlay.yaml"
    overlay.write_text(json.dumps(content))
    return overlay


def best(runs: Sequence[Run], what: str) -> float:
    return min(float(getattr(run, what)) for run in runs)


def table(
    full: dict[str, list[Run]], first: dict[str, Run], empty: dict[str, list[Run]], bare: float
) -> bool:
    """Print what was measured; whether the budgets hold."""
    whole = best(full["tokens"], "cpu") - best(empty["tokens"], "cpu")
    print(f"the bare wire: {bare:.2f} s of CPU")
    held = True
    for name, runs in full.items():
        seconds, peak = best(runs, "seconds"), max(run.megabytes for run in [first[name], *runs])
        spent = best(runs, "cpu") - best(empty[name], "cpu")
        fits = seconds <= SECONDS and peak <= MEGABYTES
        held = held and fits
        cpu, begun = best(runs, "cpu"), first[name]
        verdict = "holds" if fits else "DOES NOT HOLD"
        print(
            f"{name:8} {seconds:6.2f} s (median {statistics.median(r.seconds for r in runs):.2f})  "
            f"CPU {cpu:6.2f} s = {cpu / bare:.1f} x the wire  peak {peak:6.1f} MB  for the cache "
            f"{spent:6.2f} s = {spent / whole:.2f} of a census  {verdict}"
        )
        print(
            f"         first round {begun.seconds:.2f} s, CPU {begun.cpu:.2f} s; {runs[-1].cache}"
        )
    share = (best(full["shared"], "cpu") - best(empty["shared"], "cpu")) / whole
    print(f"share of a census for the second script: {share:.2f} (budget {SHARE:.2f})")
    return held and share <= SHARE


def main() -> int:
    """0 when the budgets hold, else 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patient", action="store_true", help="no look is ended by its time")
    parser.add_argument("--serve", action="store_true", help="fill, say how to reach it, and wait")
    options = parser.parse_args()
    quiet = Options(clients=options.clients, traffic=False, rotating=False, encoding="jwt")
    with Stack(quiet) as stack, tempfile.TemporaryDirectory() as folder:
        clear(stack)
        busy(stack)
        if options.serve:
            fill(stack, options.keys)
            print("\n".join(f"export {k}={v!r}" for k, v in stack.environment.items()), flush=True)
            while True:
                time.sleep(60)
            return 0
        overlay = settings_file(stack, Path(folder), options.patient)
        empty, _first = measure(stack, overlay, options.rounds, "empty")
        fill(stack, options.keys)
        busy(stack)
        port = int(stack.environment["REDIS_PORT"])
        before = bare_wire(port)
        full, first = measure(stack, overlay, options.rounds, "full")
        bare = min(before, bare_wire(port))
    return 0 if table(full, first, empty, bare) else 1


if __name__ == "__main__":
    sys.exit(main())
