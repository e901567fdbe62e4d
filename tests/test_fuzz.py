"""Bytes of strangers: random, JSON of any shape, and good input mutated, on every reader. A crash
is anything a reader's contract does not name. `make fuzz` does more (FUZZ_EXAMPLES) and keeps what
crashed under tests/data/crashes, which is tried first ever after."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.fuzz_targets import TARGETS, Target

CRASHES = Path(__file__).parent / "data" / "crashes"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
KEEP = "FUZZ_EXAMPLES" in os.environ

_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["2026-11-23T02:00:00Z", "UP", "ok", "0001-01-01", "9999-12-31T23:59:59-23:59"]
    ),
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=9), inner)
    ),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())
_NASTY = (
    *(b"", b"\0", b"\xff", b'"', b"{", b"[" * 3000, b"\n", b"\x85", b"e400", b"-1", b"NaN"),
    *(b"9" * 400, b"99999999999999999999", b"null", b"true", b"[]", b"{}", b"\xed\xa0\x80"),
    *("\u2028".encode(), "\u0663".encode(), b"${", b"&a", b"*a", b"!!python/object:os.system"),
)


def _mutated(good: bytes, dice: random.Random) -> bytes:
    """A few cuts, doublings, flips and pieces of nonsense; in JSON also a value of another type."""
    data = bytearray(good)
    for _ in range(dice.randint(1, 4)):
        at = dice.randint(0, len(data))
        move = dice.randint(0, 4)
        if move == 0:
            data[at : at + dice.randint(1, 8)] = dice.choice(_NASTY)
        elif move == 1 and at < len(data):
            data[at] ^= 1 << dice.randint(0, 7)
        elif move == 2:
            del data[at : at + dice.randint(1, 30)]
        elif move == 3:
            data[at:at] = data[at : at + dice.randint(1, 30)]
        else:
            data = bytearray(_retyped(bytes(data), dice))
    return bytes(data)


def _retyped(data: bytes, dice: random.Random) -> bytes:
    """One value somewhere in a JSON document replaced by one of another type."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    place, name = None, None
    spot: Any = value
    while isinstance(spot, (dict, list)) and spot:
        place, name = spot, dice.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
        spot = spot[name]
        if dice.random() < 0.3:
            break
    other = dice.choice([None, True, 0, -1, 1e300, "", "x", [], {}, [[]], {"a": {}}, 10**30])
    if place is None:
        return json.dumps(other).encode()
    place[name] = other
    return json.dumps(value).encode()


def _inputs(target: Target) -> st.SearchStrategy[bytes]:
    good = st.sampled_from(list(target.seeds))
    mutated = st.builds(lambda one, n: _mutated(one, random.Random(n)), good, st.integers(0, 2**32))
    return st.one_of(
        mutated, mutated, mutated, _JSON, st.text(max_size=80).map(_encoded), st.binary()
    )


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _try(target: Target, data: bytes) -> None:
    try:
        target.run(data)
    except target.may:
        return
    except BaseException:
        if KEEP:
            folder = CRASHES / target.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{hashlib.sha256(data).hexdigest()[:16]}.bin").write_bytes(data)
        raise


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_fuzz(target: Target) -> None:
    for good in target.seeds:
        _try(target, good)

    examples = max(20, int(EXAMPLES * target.share))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=not KEEP,
        suppress_health_check=list(HealthCheck),
    )
    @given(_inputs(target))
    def every(data: bytes) -> None:
        _try(target, data)

    every()


_KEPT = sorted(CRASHES.glob("*/*.bin"))


@pytest.mark.parametrize("path", _KEPT, ids=[f"{p.parent.name}-{p.stem}" for p in _KEPT])
def test_what_crashed_once_is_read(path: Path) -> None:
    (target,) = [each for each in TARGETS if each.name == path.parent.name]
    _try(target, path.read_bytes())


def test_a_crash_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_fuzz.KEEP", False)

    def breaks(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError):
        _try(Target("none", breaks, [b""], (ValueError,)), b"x")
