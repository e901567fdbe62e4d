"""Keep: a client's profile as compact, versioned text, and back.

One JSON object of about 4 kB: `v` the version, scalars by name, tables as base64 of little-endian
32-bit floats, so that a detector restored from text finds what the original would have found.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from array import array
from typing import Any, Callable, Dict, Mapping, Union

from monitoring.anomaly.profiles import ARRAYS, COUNTS, NUMBERS, Profile

VERSION = 1


def encode(profile: Profile) -> str:
    """The profile as one line of JSON."""
    state: Dict[str, Any] = {"v": VERSION, "born": profile.born, "silent": int(profile.silent)}
    for name in (*COUNTS, *NUMBERS):
        value = getattr(profile, name)
        if value:
            state[name] = value
    for name in ARRAYS:
        state[name] = _pack(getattr(profile, name))
    state["known"], state["suspects"] = profile.known, profile.suspects
    if profile.guessers:
        state["guessers"] = {who: list(found) for who, found in profile.guessers.items()}
    state["holds"] = {reason: list(hold) for reason, hold in profile.holds.items()}
    return json.dumps(state, separators=(",", ":"))


def decode(text: Union[str, bytes]) -> Profile:
    """The profile again. ValueError if it is not one, or of a version that has no reader here;
    fields that this version does not know are ignored, fields that are missing start empty."""
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("profile is not JSON") from error
    version = state.get("v") if isinstance(state, dict) else None
    reader = READERS.get(version) if isinstance(version, int) else None
    if reader is None:
        raise ValueError("profile has no version that this program reads")
    try:
        return reader(state)
    except (TypeError, LookupError, AttributeError, struct.error, binascii.Error) as error:
        raise ValueError("profile is damaged") from error


def _read_version_1(state: Mapping[str, Any]) -> Profile:
    profile = Profile(int(state["born"]))
    profile.silent = bool(state.get("silent", False))
    for name in COUNTS:
        setattr(profile, name, int(state.get(name, 0)))
    for name in NUMBERS:
        setattr(profile, name, float(state.get(name, 0.0)))
    for name, length in ARRAYS.items():
        if name in state:
            setattr(profile, name, _unpack(state[name], length))
    profile.known = {str(k): int(hour) for k, hour in state.get("known", {}).items()}
    profile.suspects = {str(k): int(hour) for k, hour in state.get("suspects", {}).items()}
    guessers = state.get("guessers", {})
    profile.guessers = {str(k): (int(found[0]), float(found[1])) for k, found in guessers.items()}
    holds = state.get("holds", {})
    profile.holds = {
        str(k): (int(hold[0]), float(hold[1]), int(hold[2])) for k, hold in holds.items()
    }
    return profile


READERS: Dict[Any, Callable[[Mapping[str, Any]], Profile]] = {1: _read_version_1}


def _pack(values: array[float]) -> str:
    if not any(values):
        return ""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode("ascii")


def _unpack(text: str, length: int) -> array[float]:
    if not text:
        return array("f", bytes(4 * length))
    return array("f", struct.unpack(f"<{length}f", base64.b64decode(text, validate=True)))
