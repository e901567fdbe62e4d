"""Decision: every exception inside an exception, however a library has nested them."""

from __future__ import annotations

from typing import Iterator, List


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, then all that it wraps: causes, contexts, `reason` and exceptions among its
    arguments (requests around urllib3 around http.client around a socket)."""
    waiting: List[BaseException] = [error]
    seen = set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (current.__cause__, current.__context__, getattr(current, "reason", None))
        waiting += [e for e in (*inner, *current.args) if isinstance(e, BaseException)]
