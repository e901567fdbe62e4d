"""Present: a progress bar on the terminal for a scan that takes long."""

from __future__ import annotations

import sys
import time
from typing import Any, Optional

_PATIENCE = 1.0  # a scan that is done sooner needs no bar
_EVERY = 0.1


class ProgressBar:
    """Shown on standard error, from a second on, and gone when the scan is done. It says how many
    keys were seen of how many, and no more."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, seen: int, expected: Optional[int]) -> None:
        now = time.monotonic()
        if now - self._started < _PATIENCE or now - self._shown_at < _EVERY:
            return
        self._shown_at = now
        if self._bar is None:
            self._start(expected)
        self._bar.update(self._task, completed=seen, total=expected)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self, expected: Optional[int]) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        # No refresh thread: the scan is one thread's work, and a second one makes it slower.
        self._bar = Progress(
            TextColumn("reading the cache"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=expected)
        self._bar.start()
