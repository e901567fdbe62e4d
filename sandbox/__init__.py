"""A small but real payment stack to watch: services, vault, cache, receivers, traffic, faults.

It stands on the other side of the wire: it imports nothing of `monitoring`, and `monitoring`
imports nothing of it. `python -m sandbox --help` shows how to run it; tests use
`sandbox.stack.Stack` for the whole or one server class alone.
"""

from __future__ import annotations
