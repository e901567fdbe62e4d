"""Present: who is sent what, for each fault of the sandbox, by a real Alertmanager.

    python -m benchmarks.messages [--fault sapi-500 ...] [--hold 8]

The three scripts push to Alertmanager and are scraped by a real Prometheus with the shipped rules;
routes and inhibition are the shipped ones, a minute lasts as long as a cycle. For each fault a row:
messages that each receiver got while it was on, and again about the same thing (an alert that had
ended, or that this receiver had been sent before). Exit status 1 where anything came again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from monitoring.alerts.grouping import metrics_of
from sandbox import observers
from sandbox.eapi import TOKEN_SECONDS
from sandbox.faults import parse
from sandbox.options import Options
from sandbox.stack import Stack

CYCLE = 4.0  # seconds; it stands for a minute
PROOFS = 60.0  # seconds between two tries whether SAPI refuses what it must
#: Seconds that a fault needs beside the cycles it is given.
NEEDS = {
    **{f"auth-accepts-{what}": PROOFS for what in ("wrong-secret", "tampered", "alg-none")},
    "auth-accepts-expired": PROOFS + 90.0 + 120.0,  # a token's life, and how long one is kept
    "pagerduty-500": 330.0,
}
#: A fault that gives a channel something to send -> the fault it is set with.
BESIDE = {"pagerduty-500": "sapi-500"}
#: Faults that need a token to run out, in a world where they live for so many seconds.
SHORT_LIVED = {"auth-accepts-expired": 90.0}
#: Last those that leave something behind.
FAULTS = (
    *(f"{name}-{kind}" for kind in ("500", "down", "hang", "degraded", "slow", "garbage",
                                    "login-page") for name in ("sapi", "eapi", "conjur")),
    *("sapi-part-down", "eapi-breaker-open", "rotation-500", "rotation-hang"),
    *("conjur-502", "conjur-unauthorized", "conjur-forbidden", "conjur-database-down"),
    *("conjur-sees-nothing", "conjur-roles", "conjur-overprivileged", "redis-hang"),
    *("redis-refused", "redis-loading", "redis-noauth", "redis-readonly", "redis-maxmemory"),
    *("conjur-database-readonly", "conjur-wrong-data-key", "tls-expired", "tls-wrong-host"),
    *("auth-broken", "auth-accepts-wrong-secret", "auth-accepts-tampered"),
    *("auth-accepts-alg-none", "alertmanager-500", "pagerduty-500", "failures-burst"),
    *("cache-no-ttl", "expiry-cliff", "rotation-stuck", "rotation-failed", "rotation-half-done"),
    "auth-accepts-expired",
)  # fmt: skip

#: Alerts that say that something takes long.
SLOW = {
    *(f"PaymentApi{metric.title().replace('_', '')}" for metric in metrics_of("slow")),
    "PaymentApiCycleSlow",
}

Thing = tuple[str, str, str]  # alert, component, client


def thing(labels: dict[str, str]) -> Thing:
    """What an alert is about, whatever its severity."""
    return labels["alertname"], labels.get("component", ""), labels.get("client", "")


def slow(alert: dict[str, Any]) -> bool:
    """Whether it says that something takes long."""
    return alert["labels"]["alertname"] in SLOW


def again(messages: Sequence[dict[str, Any]]) -> list[str]:
    """`receiver: alert component` of what a receiver was sent as new more than once. A message
    repeats what of its group still fires, which is not new."""
    firing: dict[str, dict[tuple[str, Thing], bool]] = {}
    told: Counter[tuple[str, Thing]] = Counter()
    for message in messages:
        receiver = message["receiver"]
        group = firing.setdefault(f"{receiver}|{message['groupKey']}", {})
        for alert in message["alerts"]:
            key = receiver, thing(alert["labels"])
            fires = alert["status"] == "firing"
            told[key] += fires and not group.get(key, False)
            group[key] = fires
    return [f"{receiver}: {' '.join(what)}" for (receiver, what), n in told.items() if n > 1]


class World:
    """Everything that runs."""

    def __init__(self, folder: Path, closing: contextlib.ExitStack, life: float) -> None:
        options = Options(clients=8, preload=30, tls=True, conjur="enterprise", token_seconds=life)
        self.stack = closing.enter_context(Stack(options))
        self.manager = observers.Alertmanager(folder, f"{self.stack.receivers.url}/webhook")
        closing.callback(self.manager.stop)
        pushing = {**self.stack.environment, "ALERTMANAGER_URL": self.manager.url}
        overlay = Path(pushing["MONITORING_CONFIG"])
        often = {
            "CANARY": {"proof_interval": PROOFS},
            "ALERT_MANAGER": {"resolve_after": 4 * CYCLE},
        }
        overlay.write_text(json.dumps({**json.loads(overlay.read_text()), **often}))
        exporters = observers.exporters(pushing, folder, interval=CYCLE)
        for exporter in exporters:
            closing.callback(exporter.stop)
        self.prometheus = observers.Prometheus(
            folder,
            [exporter.address for exporter in exporters],
            alertmanager=self.manager.url,
            environment="dev",
            minute=CYCLE,
        )
        closing.callback(self.prometheus.stop)

    def sent(self, since: int) -> list[dict[str, Any]]:
        """What Alertmanager has sent after its first `since` messages. That something is slow is
        left out: on a busy machine everything is."""
        messages = [message["body"] for message in self.stack.received("webhook")]
        return [m for m in messages if not all(map(slow, m["alerts"]))][since:]

    def quiet(self) -> None:
        """Until nothing more is said and no incident goes on, or for 15 cycles."""
        deadline = time.monotonic() + 15 * CYCLE
        while time.monotonic() < deadline:
            before = len(self.sent(0))
            time.sleep(2 * CYCLE)
            goes_on = [alert for alert in self.manager.alerts() if not slow(alert)]
            if not goes_on and before == len(self.sent(0)):
                return

    def play(self, fault: str, cycles: float) -> list[dict[str, Any]]:
        """The messages about a fault that lasts so many cycles, and about its end."""
        since = len(self.sent(0))
        both = [parse(each) for each in (fault, BESIDE.get(fault, "")) if each]
        for name, value in both:
            self.stack.faults.set(name, value)
        try:
            time.sleep(cycles * CYCLE + NEEDS.get(fault, 0.0))
        finally:
            for name, _ in both:
                self.stack.faults.clear(name)
        self.quiet()
        return self.sent(since)


def rows(world: World, faults: Sequence[str], cycles: float) -> Iterator[tuple[str, list[str]]]:
    """A line for each fault, and what came again."""
    for fault in faults:
        messages = world.play(fault, cycles)
        said = []
        for message in messages:
            alerts = {f"{a['labels']['alertname'][10:]} {a['labels'].get('component', '')} "
                      f"{a['labels'].get('client', '')} {a['labels'].get('severity', '')}".strip()
                      for a in message["alerts"] if a["status"] == message["status"]}  # fmt: skip
            said.append(f"{message['receiver']} {message['status']}: {', '.join(sorted(alerts))}")
        yield f"{fault}\n" + "\n".join(f"    {line}" for line in said), again(messages)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--fault", action="append", help="this one; repeatable")
    options.add_argument("--hold", type=float, default=8.0, help="cycles (%(default)s)")
    args = options.parse_args()
    asked, repeated = args.fault or FAULTS, 0
    for life in sorted({SHORT_LIVED.get(fault, TOKEN_SECONDS) for fault in asked}, reverse=True):
        faults = [fault for fault in asked if SHORT_LIVED.get(fault, TOKEN_SECONDS) == life]
        repeated += in_a_world(life, faults, args.hold)
    sys.stdout.write(f"{repeated} things were told again\n")
    return int(repeated > 0)


def in_a_world(life: float, faults: Sequence[str], cycles: float) -> int:
    """Play the faults where a token lives for `life` seconds, and print what came of it. Returns
    how many things were told again."""
    repeated = 0
    with contextlib.ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        world = World(folder, closing, life)
        time.sleep(4 * CYCLE)
        for line, twice in rows(world, faults, cycles):
            repeated += len(twice)
            sys.stdout.write("".join([f"{line}\n", *(f"    AGAIN {text}\n" for text in twice)]))
            sys.stdout.flush()
    return repeated


if __name__ == "__main__":
    sys.exit(main())
