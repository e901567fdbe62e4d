"""Watchdog: a tiny child that cleans up after us when we are killed and cannot do it ourselves.

PR_SET_PDEATHSIG would be shorter, but it exists on Linux only and fires when the *thread* that
started the child ends, which a restart from a request handler would trip over. A shell that
blocks on a pipe works everywhere: our death, however sudden, closes the pipe.
"""

from __future__ import annotations

import contextlib
import subprocess

SCRIPT = r"""
trap '' INT TERM HUP
pids=' '
folders=
newline='
'
while read -r word value; do
  case $word in
    pid) pids="$pids$value " ;;
    forget) case $pids in *" $value "*) pids="${pids%%" $value "*} ${pids#*" $value "}" ;; esac ;;
    folder) folders="$folders$value$newline" ;;
    bye) exit 0 ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
printf '%s' "$folders" | while read -r folder; do rm -rf "$folder"; done
"""


class Watchdog:
    """Kills the guarded processes and removes the guarded folders should this process die."""

    def __init__(self) -> None:
        # start_new_session: Ctrl-C in a terminal must not reach it before us.
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _tell(self, line: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(line.encode() + b"\n")
        self._shell.stdin.flush()

    def guard(self, pid: int) -> None:
        """Kill process `pid` when we die."""
        self._tell(f"pid {pid}")

    def forget(self, pid: int) -> None:
        """Process `pid` has ended: its number may soon be somebody else's."""
        self._tell(f"forget {pid}")

    def guard_folder(self, folder: str) -> None:
        """Remove `folder` and all in it when we die."""
        self._tell(f"folder {folder}")

    def close(self) -> None:
        """Nothing is left to guard: dismiss the watchdog. Harmless when repeated."""
        assert self._shell.stdin is not None
        if self._shell.stdin.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            self._tell("bye")
        with contextlib.suppress(BrokenPipeError):
            self._shell.stdin.close()
        self._shell.wait(timeout=5)
