"""Acquire: all layers of the configuration into one `Settings`, or every problem at once.

config.example.py -> config.py -> --config or MONITORING_CONFIG -> environment and `.env`; later
wins. The files are executed or parsed by path and never imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qsl, unquote, urlsplit

from monitoring.config import (
    build as config_build,
    env,
    kinds as config_kinds,
    rules as config_rules,
)
from monitoring.config.files import read_file
from monitoring.config.layers import Entry, Layer, Values, layer_of_environment, layer_of_file
from monitoring.config.nodes import Leaf, leaves
from monitoring.config.problems import (
    ConfigurationError,
    Environment,
    Problem,
    RawFile,
    is_example,
    mask_urls,
    shown,
    spell,
)
from monitoring.config.schema import CONNECTIONS, SCHEMA, SETTINGS
from monitoring.config.secret import Secret, small_file
from monitoring.config.settings import Origin, Settings

# -- every secret that settings hold, for the redaction list.


def secrets_of(value: object) -> Iterator[str]:
    """Every secret inside settings, revealed, and of every URL its password (or lone user, which is
    a token) and the values of its query, for the redaction list; files that cannot be read are
    left to whoever needs them."""
    if isinstance(value, Secret):
        with contextlib.suppress(OSError):
            yield value.reveal()
    elif isinstance(value, str) and "://" in value:
        yield from _in_url(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secrets_of(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from secrets_of(item)
    elif dataclasses.is_dataclass(value):
        for part in dataclasses.fields(value):
            yield from secrets_of(getattr(value, part.name))


def _in_url(url: str) -> Iterator[str]:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        found = [parts.password or parts.username or ""]
        found += [value for _, value in parse_qsl(parts.query)]
        yield from found
        yield from map(unquote, found)


# -- the files a configuration points at: found, and readable, before anything runs.

MOST_BUNDLE = 4 << 20
_CA_FILES = ("MONITORING_CA_FILE", "REDIS_CA_FILE", "CONJUR_CERT_FILE")


def resolve(values: Values) -> list[Problem]:
    """Make every path in `values` absolute (relative ones start at the folder of the file that
    names them, or at the working directory) and try every file that will be read."""
    problems: list[Problem] = []
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
        return None  # looked at when the state is opened: a run goes on without it, and tells
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


# -- all layers of the configuration into one `Settings`, or every problem at once.

__all__ = ["ConfigurationError", "Problem", "connections", "describe", "load", "reference"]

_ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Reference:
    """One row of the table of settings in the README."""

    name: str
    env: str
    default: str
    meaning: str


@dataclass(frozen=True)
class _Layers:
    template: Layer
    edited: Optional[Layer]
    extra: Optional[Layer]
    environment: Layer

    @property
    def all(self) -> list[Layer]:
        found = [self.template, self.edited, self.extra, self.environment]
        return [layer for layer in found if layer is not None]


def load(
    *,
    script: str,
    root: Path,
    config_file: Optional[str],
    environ: Mapping[str, str],
    cwd: Path,
) -> Settings:
    """Read every layer. `root` is the folder of the scripts, `config_file` what `--config` said.

    Raises ConfigurationError with every problem found, each naming file, key, value and cure.
    """
    found = env.gather(environ, (root, cwd))
    refused = [*found.refused, *config_rules.no_config_from(found)]
    found = found.without({config_rules.NAMES_A_FILE})
    layers = _read_layers(found, root, config_file, cwd)
    lured = config_rules.lured(_lay(layers), found.visited)
    if lured:
        refused += config_rules.refusals(lured, found.visited)
        left = layer_of_environment(found.without(lured), SETTINGS, cwd)
        layers = replace(layers, environment=left)
    problems = _unique([p for layer in layers.all for p in layer.problems])
    values = _lay(layers)
    if any(path not in values.entries for path in _needed()):
        raise ConfigurationError(problems)  # the template itself is broken
    problems += resolve(values)
    problems += config_rules.problems(values, time.time())
    folder = _state_folder(values, found.values, problems)
    settings = config_build.build(values, folder, problems)
    if problems:
        raise ConfigurationError(_unique(problems))
    return replace(
        settings,
        origins=config_build.origins(values, [path for path, _ in leaves(SETTINGS)]),
        warnings=tuple(
            refused
            + [note for note in layers.environment.notes if note]
            + _no_folder(folder)
            + config_rules.warnings(settings, values, script)
        ),
    )


def _read_layers(found: Environment, root: Path, config_file: Optional[str], cwd: Path) -> _Layers:
    chosen = config_file or found.values.get("MONITORING_CONFIG", "")
    # A file may look a target up by itself, and no rule would see where it came from.
    with env.overlay(found.without(config_rules.TARGETS).values):
        template = _file_layer(root / "config.example.py", root)
        edited = root / "config.py"
        own = _file_layer(edited, root) if edited.exists() else None
        extra = _file_layer((cwd / chosen).absolute(), root) if chosen else None
    return _Layers(template, own, extra, layer_of_environment(found, SETTINGS, cwd))


def _file_layer(path: Path, root: Path) -> Layer:
    raw: RawFile = read_file(path, env.owners(root) if path.parent == root else ())
    name = path.name if path.parent == root else str(path)
    named = tuple(replace(problem, file=name) for problem in raw.problems)
    return layer_of_file(replace(raw, file=name, problems=named), SCHEMA)


def _lay(layers: _Layers) -> Values:
    environment = next(
        (
            layer.entries[("MONITORING_ENV",)].value
            for layer in reversed(layers.all)
            if ("MONITORING_ENV",) in layer.entries
        ),
        "",
    )
    values = Values()
    values.lay_template(layers.template, environment)
    if layers.edited is not None:
        values.lay_edited(layers.edited, layers.template, environment)
    for layer in (layers.extra, layers.environment):
        if layer is not None:
            values.lay(layer, environment)
    return values


def _needed() -> list[tuple[str, ...]]:
    kept = [(path, node) for path, node in leaves(SETTINGS) if isinstance(node, Leaf)]
    return [path for path, _ in kept if path[0] != "ALERT_THRESHOLDS"]


def _unique(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))


def _state_folder(values: Values, environ: Mapping[str, str], problems: list[Problem]) -> Path:
    if values["MONITORING_STATE_DIR"]:
        return Path(values["MONITORING_STATE_DIR"])
    folder = env.state_folder(environ)
    if folder is None:
        cure = "there is no home folder to keep the state in; set this variable"
        problems.append(Problem("environment", "MONITORING_STATE_DIR", "", cure))
    return folder or Path()


def _no_folder(folder: Path) -> list[str]:
    """A warning and no problem: who may write beside it must not end the monitor by it."""
    if not os.path.exists(folder) or os.path.isdir(folder):
        return []
    return [f"the state folder {folder} is not a folder: runs go on without memory"]


def describe(settings: Settings, *, everything: bool = True) -> list[Origin]:
    """Rows for --check-config: every effective setting (or those alone that are no default),
    masked, and where it came from; then each channel, on or off and why; then the warnings."""
    notify = settings.notifications
    rows = [r for r in settings.origins if everything or r.where != config_build.DEFAULT]
    folder = [row.where for row in rows if row.name == "MONITORING_STATE_DIR" and row.shown != "''"]
    rows.append(Origin("state folder", str(settings.state_dir), "".join(folder) or "XDG default"))
    for name, why in (*dict.fromkeys(notify.channels, "").items(), *notify.off.items()):
        where = "ALERT_MANAGER" if name == "alertmanager" else "CHANNEL_CONFIG"
        rows.append(Origin(f"channel {name}", f"off: {why}" if why else "on", where))
    found = [mask_urls(sentence) for sentence in settings.warnings]
    return rows + [Origin("warning", sentence, "configuration") for sentence in found]


def verdict(settings: Settings) -> str:
    """What `--check-config` ends with: that all is valid, how much it warns of, and which channels
    are on and off."""
    notify = settings.notifications
    on, off = ", ".join(dict.fromkeys(notify.channels)), ", ".join(notify.off)
    warned = len(settings.warnings)
    warnings = f", with {warned} warning{'s' if warned > 1 else ''}" if warned else ""
    return (
        f"The configuration is valid{warnings}. Channels that are on: {on or 'none'}; "
        f"off: {off or 'none'}."
    )


def untouched(settings: Settings) -> bool:
    """Whether nobody has said yet what is to be watched."""
    named = ("EAPI_ENDPOINT", "SAPI_ENDPOINT", "CONJUR_URL", "REDIS_HOST")
    rows = [row for row in settings.origins if row.name in named]
    return bool(rows) and all(row.where == config_build.DEFAULT for row in rows)


def connections(settings: Settings) -> list[Origin]:
    """Of the rows of `describe`, what `--debug` shows: where everything is, and how it is asked."""
    kept = [row for row in settings.origins if row.name.partition("[")[0] in CONNECTIONS]
    return [*kept, Origin("state folder", str(settings.state_dir), "")]


def reference(root: Path = _ROOT) -> list[Reference]:
    """Every setting with its variable, its default in `root`/config.example.py, its meaning."""
    with env.overlay({}):
        layer = _file_layer(root / "config.example.py", root)
    rows = []
    for path, node in leaves(SETTINGS):
        entry: Any = layer.entries.get(path)
        if isinstance(node, Leaf):
            default = shown(entry.raw) if entry else ""
            rows.append(Reference(spell(path), node.env, default, node.help))
        else:
            text = node.help if not hasattr(node, "value") else node.value.help
            rows.append(Reference(spell(path), "", "[]" if entry else "{}", text))
    return rows
