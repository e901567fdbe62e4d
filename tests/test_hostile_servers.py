"""Hostile Redis, HTTP and mail servers (tests/fuzzing): whatever a seed makes of their answers, the
run ends in good form, the rest is measured and told, no secret leaks, and memory stays bounded.

Peers are the watched systems, the receivers, the history server, and whoever scrapes; runs are
single, loops, or reports. In CI as many seeds as fit into FUZZ_SECONDS (default 60), from 0 on.
`make fuzz` (FUZZ_EXAMPLES) plays a hundredth of that number from a random one on, and keeps what
failed in tests/data/fuzz-crashes.jsonl, which is played ever after.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from sandbox.stack import Stack
from tests.fuzzing import peers
from tests.fuzzing.nursery import Nursery
from tests.fuzzing.play import OPTIONS, Case, play
from tests.raw_server import RawServer, answers, http

CRASHES = Path(__file__).parent / "data" / "fuzz-crashes.jsonl"
KEEP = "FUZZ_EXAMPLES" in os.environ
SECONDS = float(os.environ.get("FUZZ_SECONDS", "3000" if KEEP else "60"))
SEEDS = int(os.environ.get("FUZZ_EXAMPLES", "30000")) // 100
LEAST = 8  # seeds that even a busy machine must play
GROUP = pytest.mark.xdist_group("hostile servers")
Site = tuple[Stack, Nursery]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Stack(OPTIONS) as stack, Nursery() as nursery:
        yield stack, nursery


def _keep(case: Case, why: str) -> None:
    line = json.dumps({**asdict(case), "why": why[:200]})
    if KEEP and case.said not in [each.said for each in _kept()]:
        with CRASHES.open("a") as handle:
            handle.write(line + "\n")


def _kept() -> list[Case]:
    found = [json.loads(line) for line in CRASHES.read_text().splitlines()]
    names = [field.name for field in fields(Case)]
    return [Case(**{name: each[name] for name in names if name in each}) for each in found]


@GROUP
@pytest.mark.timeout(3600)
def test_any_seed(site: Site, tmp_path: Path) -> None:
    first = random.randrange(1 << 30) if KEEP else int(os.environ.get("FUZZ_SEED", "0"))
    until, failed = time.monotonic() + SECONDS, []
    for number in range(SEEDS):
        if time.monotonic() > until and number >= LEAST:
            break
        case, folder = Case.of(first + number), tmp_path / str(number)
        folder.mkdir()
        try:
            play(case, *site, folder)
        except AssertionError as error:
            _keep(replace(case, said=getattr(error, "said", "")), str(error))
            failed.append(f"{case}: {str(error)[-2500:]}")
    print(f"{number} cases")
    assert not failed, f"{len(failed)} of {number} failed:\n" + "\n\n".join(failed)


@GROUP
@pytest.mark.parametrize("case", _kept(), ids=lambda c: f"{c.peer}-{c.script}-{c.seed}")
def test_what_failed_once(case: Case, site: Site, tmp_path: Path) -> None:
    play(case, *site, tmp_path)


@contextlib.contextmanager
def _echo() -> Iterator[int]:
    """A server that gives a document to each request."""
    body = b'{"status": "UP", "components": {"db": {"status": "UP"}, "n": [1, 2, 3]}}'
    with RawServer(answers(http(body))) as server:
        yield server.port


def _asked(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        wire.sendall(f"GET {path}?at={random.random()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        said = b""
        with contextlib.suppress(OSError):
            while more := wire.recv(65536):
                said += more
        return said


def test_a_seed_says_the_same_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a kept case says it again, drawn from nothing."""
    monkeypatch.setattr(peers, "MOST", 1 << 20)
    spoiled = 0
    with _echo() as target:
        for seed in range(5):
            paths, found = [f"/{n}" for n in range(4)], []
            for order in (paths, paths[::-1]):
                with peers.HostileHttp(target, str(seed), ["secret"]) as proxy:
                    proxy._way = "cut"  # the others take their time
                    found.append({path: _asked(proxy.port, path) for path in order})
            assert found[0] == found[1]
            packed = peers.kept(proxy.spoiled)
            spoiled += len(proxy.spoiled)
            with peers.HostileHttp(target, "another", [], peers.script_of(packed)) as again:
                again._mood = proxy._mood
                assert {path: _asked(again.port, path) for path in paths} == found[0]
    assert spoiled > 5
