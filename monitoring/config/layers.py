"""Decision: the layers of a configuration laid over each other, and where each value came from.

A layer is first flattened along the schema (unknown names and wrong values become Problems), then
applied; what is applied later wins. Lists replace lists, dicts are merged key by key.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from monitoring.catalog import THRESHOLDS
from monitoring.config.nodes import Free, Leaf, Node, Path as Keys, Rows, Table, leaves, node_at
from monitoring.config.problems import (
    Environment,
    Problem,
    RawFile,
    did_you_mean,
    shown,
    spell,
    unknown,
)


@dataclass(frozen=True)
class Entry:
    """One value: as checked, as written, and where: in a file, or as `variable` of the
    environment or a `.env`. Relative paths start at `folder`."""

    value: Any
    raw: Any
    file: str
    folder: Path
    node: Leaf
    variable: str = ""

    @property
    def where(self) -> str:
        """`config.py`, or `environment REDIS_PORT`."""
        return f"{self.file} {self.variable}".strip()

    def problem(self, path: Keys, cure: str) -> Problem:
        """This value is wrong, `path` being its place in a file."""
        value = self.value if self.node.secret else self.raw
        key = self.variable or spell(path)
        return Problem(self.file, key, shown(value, secret=self.node.secret), cure)


_NOTHING = Entry(None, None, "", Path(), Leaf(str, ""))


@dataclass
class Layer:
    """The checked values of one file or of the environment, by path."""

    where: str
    folder: Path
    entries: dict[Keys, Entry] = field(default_factory=dict)
    overrides: dict[str, Layer] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fail(self, path: Keys, value: str, cure: str) -> None:
        """Note a problem at `path`."""
        self.problems.append(Problem(self.where, spell(path), value, cure))


def flatten(layer: Layer, node: Node, raw: Any, path: Keys = ()) -> None:
    """Check `raw` against `node` and put what it holds into `layer`."""
    if isinstance(node, Leaf):
        _leaf(layer, node, raw, path)
    elif isinstance(node, Rows):
        _rows(layer, node, raw, path)
    elif not isinstance(raw, Mapping):
        _not_a_dict(layer, node, raw, path)
    elif isinstance(node, Free):
        _free(layer, node, raw, path)
    else:
        for key, value in raw.items():
            _known(layer, node, value, (*path, str(key)))


def _known(layer: Layer, node: Table, raw: Any, path: Keys) -> None:
    child = node.keys.get(path[-1])
    if child is None:
        layer.fail(path, unknown(raw), f"no such {node.called}" + _hint(node, path))
    else:
        flatten(layer, child, raw, path)


def _hint(node: Table, path: Keys) -> str:
    homes = [t.category for t in THRESHOLDS.values() if t.key == path[-1]]
    if node.called == "metric" and homes:
        return f" in {path[-2]!r}; it belongs into {homes[0]!r}"
    near = did_you_mean(path[-1], node.keys)
    own = "; begin the name of a helper of your own with _" if len(path) == 1 else ""
    return near or own


def _not_a_dict(layer: Layer, node: Node, raw: Any, path: Keys) -> None:
    if raw is None and isinstance(node, Table) and node.called == "level":
        for key, child in node.keys.items():
            flatten(layer, child, None, (*path, key))
        return
    known = ", ".join(node.keys) if isinstance(node, Table) and len(node.keys) <= 8 else ""
    layer.fail(path, unknown(raw), "write a dict" + (f" with {known}" if known else ""))


def _free(layer: Layer, node: Free, raw: Mapping[Any, Any], path: Keys) -> None:
    for key, value in raw.items():
        try:
            name = node.key(key)
        except ValueError as exc:
            layer.fail((*path, str(key)), "", f"as a key: {exc}")
        else:
            _leaf(layer, node.value, value, (*path, name))


def _rows(layer: Layer, node: Rows, raw: Any, path: Keys) -> None:
    if not isinstance(raw, (list, tuple)):
        layer.fail(path, unknown(raw), "write a list of dicts")
        return
    rows = Layer(layer.where, layer.folder)
    for number, row in enumerate(raw):
        flatten(rows, node.row, row, (*path, str(number)))
    layer.problems += rows.problems
    if not rows.problems:
        found = [_nested(rows.entries, (*path, str(i))) for i in range(len(raw))]
        layer.entries[path] = Entry(
            tuple(found), raw, layer.where, layer.folder, Leaf(tuple, node.help)
        )


def _leaf(layer: Layer, node: Leaf, raw: Any, path: Keys) -> None:
    try:
        value = node.kind(raw)
    except ValueError as exc:
        layer.fail(path, shown(raw, secret=node.secret), str(exc))
    else:
        layer.entries[path] = Entry(value, raw, layer.where, layer.folder, node)


def _nested(entries: Mapping[Keys, Entry], prefix: Keys) -> dict[str, Any]:
    """The values below `prefix` as nested dicts."""
    found: dict[str, Any] = {}
    for path, entry in entries.items():
        if path[: len(prefix)] == prefix and len(path) > len(prefix):
            *steps, last = path[len(prefix) :]
            inner = found
            for step in steps:
                inner = inner.setdefault(step, {})
            inner[last] = entry.value
    return found


def _same(entries: Mapping[Keys, Entry], path: Keys, entry: Entry) -> bool:
    return path in entries and entries[path].value == entry.value


def layer_of_file(found: RawFile, schema: Table) -> Layer:
    """The layer of a file as read; its ENVIRONMENTS become `overrides`."""
    layer = Layer(found.file, found.folder, problems=list(found.problems))
    flatten(layer, schema, found.names)
    for path in [p for p in layer.entries if p[0] == "ENVIRONMENTS"]:
        override = layer.overrides.setdefault(path[1], Layer(found.file, found.folder))
        override.entries[path[2:]] = layer.entries.pop(path)
    for name in found.lower:
        if name.upper() in schema.keys:
            layer.fail((name,), "", f"setting names are upper case; did you mean {name.upper()!r}?")
    return layer


def layer_of_environment(found: Environment, schema: Table, cwd: Path) -> Layer:
    """The layer of the variables. An empty one counts where empty means something (no recipients,
    no password, not watched), and is passed over where a value is needed."""
    layer = Layer("environment", cwd, problems=list(found.problems))
    for path, node in leaves(schema):
        if isinstance(node, Leaf) and node.env:
            _variable(layer, found, path, node)
    if layer.entries.get(("ALERT_MANAGER", "url"), _NOTHING).value:
        entry = layer.entries[("ALERT_MANAGER", "url")]
        node = node_at(schema, ("ALERT_MANAGER", "enabled"))
        layer.entries[("ALERT_MANAGER", "enabled")] = replace(
            entry, value=True, raw=True, node=node
        )
    known = variables(schema)
    layer.notes += [_stray(found, name, known) for name in sorted({*found.where}.difference(known))]
    return layer


def _stray(found: Environment, name: str, known: list[str]) -> str:
    """A variable that nothing reads and that is nearly a name we know. The environment has many
    that are no business of ours, so there it has to be nearer than in a `.env`."""
    cutoff = 0.88 if found.where[name] == "environment" else 0.8
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=cutoff)
    if not near:
        return ""
    return f"{found.where[name]}: {name} is not read by anything; did you mean {near[0]}?"


def variables(schema: Table) -> list[str]:
    """Every environment name that is read."""
    nodes = [node for _, node in leaves(schema) if isinstance(node, Leaf) and node.env]
    files = [node.env + "_FILE" for node in nodes if node.secret]
    return [node.env for node in nodes] + files + ["MONITORING_CONFIG"]


def _variable(layer: Layer, found: Environment, path: Keys, node: Leaf) -> None:
    name, raw = _chosen(layer, found, node)
    if name is None:
        return
    try:
        value = node.kind(raw)
    except ValueError as exc:
        if raw != "":
            value_shown = shown(raw, secret=node.secret)
            layer.problems.append(Problem(found.where[name], name, value_shown, str(exc)))
        else:
            layer.notes.append(
                f"{found.where[name]}: {name} is empty, which switches nothing off: what the files "
                "say of it holds"
            )
    else:
        where = found.where[name]
        folder = layer.folder if where == "environment" else Path(where).parent
        layer.entries[path] = Entry(value, raw, where, folder, node, name)


def _chosen(layer: Layer, found: Environment, node: Leaf) -> tuple[Optional[str], Any]:
    by_file = node.env + "_FILE"
    if node.secret and found.values.get(by_file):
        if found.values.get(node.env):
            where = found.where[by_file]
            cure = f"is set and {node.env} too; keep one of them"
            layer.problems.append(Problem(where, by_file, "", cure))
        return by_file, {"file": found.values[by_file]}
    return (node.env, found.values[node.env]) if node.env in found.values else (None, None)


class Values:
    """The effective settings while the layers are laid down, and afterwards."""

    def __init__(self) -> None:
        self.entries: dict[Keys, Entry] = {}
        self.defaults: Mapping[Keys, Entry] = {}
        self.of_environment: dict[Keys, Entry] = {}

    def lay_template(self, layer: Layer, environment: str) -> None:
        """Apply the defaults, which the other layers are compared with."""
        self.lay(layer, environment)
        self.defaults = dict(layer.entries)

    def is_default(self, path: Keys) -> bool:
        """Whether a value is what it would be had nobody set it anywhere."""
        return _same(self.defaults, path, self.entries[path])

    def lay(self, layer: Layer, environment: str) -> None:
        """Apply a layer, then its overrides for `environment`."""
        self.entries.update(layer.entries)
        if environment in layer.overrides:
            self.entries.update(layer.overrides[environment].entries)
            self.of_environment.update(layer.overrides[environment].entries)

    def lay_edited(self, layer: Layer, template: Layer, environment: str) -> None:
        """Apply a file that began as a copy of the template. What stands in it unchanged does not
        undo what the template's ENVIRONMENTS says for this environment, and an override left as
        it was does not undo a setting that was changed."""
        empty = Layer("", Path())
        overridden = template.overrides.get(environment, empty).entries
        for path, entry in layer.entries.items():
            if not (path in overridden and _same(template.entries, path, entry)):
                self.entries[path] = entry
        for path, entry in layer.overrides.get(environment, empty).entries.items():
            if not _same(overridden, path, entry):
                self.entries[path] = self.of_environment[path] = entry

    def __getitem__(self, path: Any) -> Any:
        """The value at a name, or at a path of names."""
        return self.entries[(path,) if isinstance(path, str) else path].value

    def table(self, *prefix: str) -> dict[str, Any]:
        """The values below `prefix` as nested dicts; empty when there are none."""
        return _nested(self.entries, prefix)

    def where(self, *path: str) -> str:
        """The file (or `environment`) a value came from; empty when it is not set."""
        return self.entries[path].file if path in self.entries else ""
