"""Decision: YAML text as a mapping, with hostile and careless files refused.

Bounded depth (the loader recurses), no aliases (a few lines of them can stand for billions of
values), no tags beyond the safe ones, and no key twice (the first would be lost in silence).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

_DEEPEST = 20


class YamlError(ValueError):
    """The text is no configuration; `line` counts from 1, 0 when unknown. Quotes no values."""

    def __init__(self, sentence: str, line: int = 0) -> None:
        super().__init__(sentence)
        self.line = line


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen:
                raise _fault(f"the key {name!r} stands twice in one mapping", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def parse(text: str) -> Mapping[Any, Any]:
    """The mapping that `text` holds; empty text gives an empty one. Raises YamlError."""
    try:
        _check_events(text)
        found = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as exc:
        raise _fault(f"is not valid YAML: {exc.problem}", exc.problem_mark) from None
    except yaml.YAMLError as exc:
        raise YamlError(f"is not valid YAML: {type(exc).__name__}") from None
    except YamlError:
        raise
    except (ValueError, OverflowError):  # a date such as 2026-13-45
        raise YamlError("is not valid YAML: a value cannot be read") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise YamlError("must be a mapping of setting names, such as REDIS_PORT: 6379")
    return found


def _fault(sentence: str, mark: Any) -> YamlError:
    return YamlError(sentence, mark.line + 1 if mark is not None else 0)


def _check_events(text: str) -> None:
    # The event parser does not recurse; the loader does, and would end in RecursionError.
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise _fault(f"is nested deeper than {_DEEPEST} levels", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            raise _fault("holds a YAML alias; write the value out", event.start_mark)
