"""Acquire: the files a configuration points at: found, and readable, before anything runs."""

from __future__ import annotations

import os
import ssl
from dataclasses import replace
from pathlib import Path
from typing import List, Optional

from monitoring.config import kinds as config_kinds
from monitoring.config.layers import Entry, Values
from monitoring.config.problems import Problem, is_example
from monitoring.settings import Secret, small_file

MOST_BUNDLE = 4 << 20
_CA_FILES = ("MONITORING_CA_FILE", "REDIS_CA_FILE", "CONJUR_CERT_FILE")


def resolve(values: Values) -> List[Problem]:
    """Make every path in `values` absolute (relative ones start at the folder of the file that
    names them, or at the working directory) and try every file that will be read."""
    problems: List[Problem] = []
    for path, entry in list(values.entries.items()):
        named = _named(entry)
        if not named:
            continue
        full = _absolute(entry.folder, named)
        secret = isinstance(entry.value, Secret)
        values.entries[path] = replace(entry, value=Secret(path=str(full)) if secret else str(full))
        cure = _wrong(path[-1], full, secret)
        if secret and not cure and values["MONITORING_ENV"] == "prod":
            cure = _wrong_secret(full)
        if cure:
            problems.append(entry.problem(path, cure))
    return problems


def _wrong_secret(file: Path) -> Optional[str]:
    example = is_example(small_file(file).decode("utf-8", "replace").strip())
    return "holds an example; prod refuses to run with it" if example else None


def _named(entry: Entry) -> str:
    if isinstance(entry.value, Secret):
        return entry.value.path
    return str(entry.value) if entry.node.kind is config_kinds.path else ""


def _absolute(folder: Path, named: str) -> Path:
    try:
        return (folder / Path(named).expanduser()).absolute()
    except RuntimeError:  # ~somebody who does not exist
        return (folder / named).absolute()


def _wrong(name: str, file: Path, secret: bool) -> Optional[str]:
    if name == "MONITORING_STATE_DIR":
        # os.path: what lies in a folder that we may not enter is seen when the state is opened
        return "is not a folder" if os.path.exists(file) and not os.path.isdir(file) else None
    try:
        text = small_file(file) if secret else small_file(file, MOST_BUNDLE)
    except OSError as exc:
        hint = "; name the file, not the secret itself" if secret else ""
        return f"cannot be read: {exc.strerror}{hint}"
    if secret or name == "CONJUR_JWT_FILE":
        return _wrong_text(text.strip(), secret)
    if name in _CA_FILES or name == "ca_file":
        return _wrong_certificates(file)
    return None


def _wrong_text(text: bytes, secret: bool) -> Optional[str]:
    if not text:
        return "is an empty file"
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    return "holds more than one line" if secret and len(text.splitlines()) > 1 else None


def _wrong_certificates(file: Path) -> Optional[str]:
    try:
        ssl.create_default_context(cafile=str(file))
    except (ssl.SSLError, OSError, ValueError):
        return "holds no CA certificate in PEM form"
    return None
