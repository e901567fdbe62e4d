"""Acquire: all layers of the configuration into one `Settings`, or every problem at once.

config.example.py -> config.py -> --config or MONITORING_CONFIG -> environment and `.env`; later
wins. The files are executed or parsed by path and never imported.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

from monitoring import env
from monitoring.config import build as config_build
from monitoring.config import resolve as config_resolve
from monitoring.config import rules as config_rules
from monitoring.config.files import RawFile, read_file
from monitoring.config.layers import Layer, Values, layer_of_environment, layer_of_file
from monitoring.config.nodes import Leaf, leaves
from monitoring.config.problems import ConfigurationError, Problem, mask_urls, shown, spell
from monitoring.config.schema import CONNECTIONS, SCHEMA, SETTINGS
from monitoring.settings import Origin, Settings

__all__ = ["ConfigurationError", "Problem", "connections", "describe", "load", "reference"]

_ROOT = Path(__file__).resolve().parent.parent


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
    def all(self) -> List[Layer]:
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
    problems += config_resolve.resolve(values)
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
            + config_rules.warnings(settings, values, script)
        ),
    )


def _read_layers(
    found: env.Environment, root: Path, config_file: Optional[str], cwd: Path
) -> _Layers:
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


def _needed() -> List[Tuple[str, ...]]:
    kept = [(path, node) for path, node in leaves(SETTINGS) if isinstance(node, Leaf)]
    return [path for path, _ in kept if path[0] != "ALERT_THRESHOLDS"]


def _unique(problems: List[Problem]) -> List[Problem]:
    return list(dict.fromkeys(problems))


def _state_folder(values: Values, environ: Mapping[str, str], problems: List[Problem]) -> Path:
    if values["MONITORING_STATE_DIR"]:
        return Path(values["MONITORING_STATE_DIR"])
    folder = env.state_folder(environ)
    if folder is None:
        cure = "there is no home folder to keep the state in; set this variable"
        problems.append(Problem("environment", "MONITORING_STATE_DIR", "", cure))
    return folder or Path()


def describe(settings: Settings, *, everything: bool = True) -> List[Origin]:
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


def connections(settings: Settings) -> List[Origin]:
    """Of the rows of `describe`, what `--debug` shows: where everything is, and how it is asked."""
    kept = [row for row in settings.origins if row.name.partition("[")[0] in CONNECTIONS]
    return [*kept, Origin("state folder", str(settings.state_dir), "")]


def reference(root: Path = _ROOT) -> List[Reference]:
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
