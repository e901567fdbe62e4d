"""Demo: the three scripts at work on a running stack: a quiet cycle, an outage, its end.

`python -m sandbox.demo` (or `make demo`) leaves its results in `demo-results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.options import Options
from sandbox.stack import Stack

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Act:
    """One command of the demo: a headline, the words after `python`, and the exit statuses that
    are right for it (a warning may be: the sandbox has rotations on their way)."""

    headline: str
    words: tuple[str, ...]
    expected: tuple[int, ...]
    keep: str = ""  # name of a file in demo-results that gets what it printed


QUIET = (
    Act(
        "Is everything up, fast, and does a login work?",
        ("health_check.py", "--single-run", "--output", "{results}/health.json"),
        (0, 1),
    ),
    Act(
        "How are tokens minted, validated, renewed, expiring?",
        ("token_usage_metrics.py", "--single-run", "--output", "{results}/tokens.json"),
        (0, 1),
    ),
    Act(
        "Who uses which credential, and how old is it?",
        ("credential_usage_metrics.py", "--single-run", "--output", "{results}/credentials.json"),
        (0, 1, 2),
    ),
    Act(
        "Is every rotation on track?",
        ("credential_usage_metrics.py", "--check-rotation"),
        (0, 1, 2),
        keep="rotation.txt",
    ),
    Act(
        "The same as a report to read (one look proves no service level: status 3, cannot tell)",
        ("token_usage_metrics.py", "--analyze", "--lookback", "1h", "--format", "html"),
        (3,),
        keep="tokens.html",
    ),
)
#: Settings of the loop that follows: of one machine all clocks agree.
FOLLOW = 'TOKENS = {"follow": True, "clock_skew": "1s"}\n'
LEARNED = 12  # good verdicts, after which it is known what SAPI writes with each
CHECK = ("health_check.py", "--single-run", "--output", "{results}/outage.json")
OUTAGE = (
    Act("The first bad cycle waits for a second one", CHECK, (2,)),
    Act("The second one notifies people", CHECK, (2,)),
)
ALL_CLEAR = (
    Act("The fault is gone: the first good cycle", CHECK, (0, 1)),
    Act("The second one says that it is over", CHECK, (0, 1)),
    Act("What fires, who was notified", ("health_check.py", "--alerts"), (0,)),
)


class Demo:
    """Plays acts on a stack and remembers which went wrong."""

    def __init__(self, stack: Stack, results: Path) -> None:
        self._stack, self._results = stack, results
        self.wrong: list[str] = []

    def play(self, acts: Sequence[Act]) -> None:
        """Run each act whose script exists, show its output, check its exit status."""
        for act in acts:
            if (ROOT / act.words[0]).exists():
                self._play(act)

    def _play(self, act: Act) -> None:
        words = [word.format(results=self._results) for word in act.words]
        say(f"\n── {act.headline}\n$ python {' '.join(words)}")
        kept = subprocess.PIPE if act.keep else None
        done = subprocess.run(
            [sys.executable, *words, "--log-format", "text"],
            cwd=ROOT,
            env={**os.environ, **self._stack.environment},
            stdout=kept,
            check=False,
        )
        if act.keep:
            self._keep(act.keep, done.stdout)
        say(f"(exit status {done.returncode})")
        if done.returncode not in act.expected:
            self.wrong.append(f"{' '.join(words)}: exit status {done.returncode}")

    def _keep(self, name: str, printed: bytes) -> None:
        (self._results / name).write_bytes(printed)
        if not name.endswith(".html"):
            say(printed.decode().rstrip())

    def play_forged(self, seconds: float = 90.0) -> None:
        """A loop follows the cache; a token that nobody minted is used, and found."""
        output, config = self._results / "forged.json", self._results / "follow.py"
        config.write_text(FOLLOW, encoding="utf-8")
        output.unlink(missing_ok=True)
        words = ["token_usage_metrics.py", "--config", str(config), "--interval", "1s"]
        words += ["--output", str(output), "--no-alerts", "--log-format", "text"]
        say(f"\n── Who uses a token that nobody minted?\n$ python {' '.join(words)}")
        loop = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, **self._stack.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._await_forged(output, seconds)
        finally:
            self._stack.faults.clear("forged-token")
            loop.terminate()
            loop.wait()

    def _await_forged(self, output: Path, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.5)
            found = json.loads(output.read_text()) if output.exists() else {}
            lineage = (found.get("tokens") or {}).get("lineage") or {}
            if lineage.get("uses", {}).get("born", 0) >= LEARNED:
                self._forge()
            for finding in found.get("findings", ()):
                if finding["reason"] == "token_without_birth":
                    say(finding["sentence"])
                    return
        self.wrong.append("the forged token was not found")

    def _forge(self) -> None:
        if not self._stack.faults.on("forged-token"):
            say("(a token is forged with the real key, and used)")
            self._stack.faults.set("forged-token")

    def keep_received(self) -> None:
        """What the receivers got, as files, and one line each."""
        for receiver in ("slack", "pagerduty", "alertmanager", "smtp"):
            got = self._stack.received(receiver)
            path = self._results / f"received-{receiver}.json"
            path.write_text(json.dumps(got, indent=2, default=str) + "\n")
            say(f"{receiver:13} received {len(got)} (see {path.name})")


def say(text: str) -> None:
    """One line for the person who watches, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def play_all(stack: Stack, results: Path) -> Demo:
    demo = Demo(stack, results)
    demo.play(QUIET)
    # An in-process fake cannot hang as a whole server does; the outage is then the vault's.
    fault = "redis-hang" if stack.redis.kind != "fakeredis" else "conjur-down"
    say(f"\n── From here on the fault {fault} is on")
    stack.faults.set(fault)
    demo.play(OUTAGE)
    stack.faults.clear(fault)
    demo.play(ALL_CLEAR)
    if stack.redis.kind != "fakeredis":
        demo.play_forged()
    say("\n── What the receivers got")
    demo.keep_received()
    return demo


def main() -> int:
    """0 when every act ended as it should, else 1 naming those that did not."""
    options = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    options.add_argument("--web", action="store_true", help="serve a page until Ctrl-C")
    args = options.parse_args()
    results = ROOT / "demo-results"
    results.mkdir(exist_ok=True)
    begun = time.monotonic()
    with Stack(Options(preload=60)) as stack:
        say(f"A payment stack runs; its cache is {stack.redis.kind} on port {stack.redis_port}.")
        if args.web:
            from sandbox import web_demo

            return web_demo.serve(stack, results)
        demo = play_all(stack, results)
    say(f"\nResults are in {results} ({time.monotonic() - begun:.0f} s)")
    for line in demo.wrong:
        say(f"NOT AS IT SHOULD BE: {line}")
    return 1 if demo.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
