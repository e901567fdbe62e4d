"""Values: the shapes a configuration is made of; `config.schema.SCHEMA` is a tree of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Optional, Union

from monitoring.config import kinds as config_kinds
from monitoring.config.kinds import Kind, text
from monitoring.config.secret import Secret

Path = tuple[str, ...]


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


# -- settings that are fields of a class of `config.settings`


def setting(
    what: Union[Kind, Free, Table], help_: str, default: Any, *, at: str = "", variable: bool = True
) -> Any:
    """A field that is a setting. `what` is its kind, or a table with help of its own. `at`: the
    name that it has of its own, and its `variable` too; empty: it is a key in the table of its
    class."""
    node = what if isinstance(what, (Free, Table)) else Leaf(what, help_, at if variable else "")
    metadata = {"node": node, "at": (at,) if at else ()}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def hidden(help_: str, *, at: str, member: Optional[Kind] = None) -> Any:
    """The same for a secret; `member` checks it where it is given directly."""
    node = secret(help_, at, member)
    return field(default=Secret(), metadata={"node": node, "at": (at,)})


def stands(*at: str, default: Any) -> Any:
    """A field whose value is the setting at `at`, which a table of others declares."""
    return field(default=default, metadata={"at": at})


def names_of(cls: Any) -> dict[str, Node]:
    """The settings of a class that have names of their own, in order."""
    own = [f.metadata for f in fields(cls) if "node" in f.metadata and f.metadata["at"]]
    return {each_["at"][0]: each_["node"] for each_ in own}


def table_of(cls: Any) -> Table:
    """The settings of a class that are keys of its table, in order."""
    own = [f for f in fields(cls) if "node" in f.metadata and not f.metadata["at"]]
    return Table({f.name: f.metadata["node"] for f in own})
