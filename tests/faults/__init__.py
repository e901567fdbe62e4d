"""The fault matrix: one row per fault, each played against real servers on loopback.

`ROWS` is the table; `tests/test_faults.py` asserts it, `python -m sandbox chaos` prints it.
"""

from __future__ import annotations

from tests.faults import cache, channels, memory, peers, process, sources, state, tls, vault, web
from tests.faults.row import Row

ROWS: tuple[Row, ...] = (
    *web.ROWS,
    *tls.ROWS,
    *cache.ROWS,
    *vault.ROWS,
    *sources.ROWS,
    *peers.ROWS,
    *channels.ROWS,
    *state.ROWS,
    *memory.ROWS,
    *process.ROWS,
)
