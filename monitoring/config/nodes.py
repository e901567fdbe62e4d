"""Values: the shapes a configuration is made of; `config_schema.SCHEMA` is a tree of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Iterable, Iterator, Mapping, Optional, Tuple, Union

from monitoring.config import kinds as config_kinds
from monitoring.config.kinds import Kind, text

Path = Tuple[str, ...]


@dataclass(frozen=True)
class Leaf:
    """One setting. `env` is the variable that wins over every file; a secret one may come as
    `env` + `_FILE` too. `help` is its line in the README. `needed`: a channel is off without."""

    kind: Kind
    help: str
    env: str = ""
    secret: bool = False
    needed: bool = False


@dataclass(frozen=True)
class Table:
    """A dict whose keys are all known."""

    keys: Mapping[str, Node]
    called: str = "setting"  # what an unknown key is not: "no such metric"


@dataclass(frozen=True)
class Free:
    """A dict whose keys are the user's own (client ids, header names); `key` checks them."""

    value: Leaf
    key: Kind = field(default=text(empty=False, longest=200))


@dataclass(frozen=True)
class Rows:
    """A list of dicts; the list of a later layer replaces the whole list."""

    row: Table
    help: str


Node = Union[Leaf, Table, Free, Rows]


def leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, Union[Leaf, Free, Rows]]]:
    """Every setting below `node` with its path, in the order of the schema."""
    if isinstance(node, Table):
        for name, child in node.keys.items():
            yield from leaves(child, (*path, name))
    else:
        yield path, node


def node_at(root: Node, path: Path) -> Any:
    """The node at `path`; KeyError when there is none."""
    for step in path:
        root = root.value if isinstance(root, Free) else root.keys[step]  # type: ignore[union-attr]
    return root


def leaf(kind: Kind, help_: str, env: str = "") -> Leaf:
    """One setting."""
    return Leaf(kind, help_, env)


def secret(help_: str, env: str = "", member: Optional[Kind] = None) -> Leaf:
    """One secret; `member` checks it where it is given directly rather than as a file."""
    return Leaf(config_kinds.secret(member), help_, env, secret=True)


def needed(setting: Leaf) -> Leaf:
    """The same, without which its channel is off."""
    return replace(setting, needed=True)


def each(names: Iterable[str], kind: Kind, help_: str, called: str = "setting") -> Table:
    """A table whose keys are alike."""
    return Table({name: Leaf(kind, f"{help_}: {name}") for name in names}, called)
