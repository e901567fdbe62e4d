"""Values: a value that must not be shown, and the small files such values are kept in."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from monitoring import text as redact

MOST_SECRET = 64 << 10


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError, also for a device, a pipe or a folder: reading
    those may never end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(handle, "rb")


def small_file(path: Path, most: int = MOST_SECRET) -> bytes:
    """The whole of a regular file of at most `most` bytes. Raises OSError for any other."""
    with open_regular(path) as opened:
        found = opened.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 10} KiB", str(path))
    return found


@dataclass(frozen=True, repr=False)
class Secret:
    """A value that must not be shown. `path` set: re-read on every `reveal()`, so that a rotated
    file is picked up (and masked from then on). Falsy when empty."""

    value: str = ""
    path: str = ""

    def reveal(self) -> str:
        """The secret itself; raises OSError when its file cannot be read, or is no text."""
        if not self.path:
            return self.value
        try:
            found = small_file(Path(self.path)).decode("utf-8").strip()
        except UnicodeDecodeError:  # its own text quotes the file
            raise OSError(errno.EILSEQ, "is not UTF-8 text", self.path) from None
        redact.register(found)
        return found

    def __bool__(self) -> bool:
        return bool(self.value or self.path)

    def __repr__(self) -> str:
        return "Secret(set)" if self else "Secret(empty)"

    __str__ = __repr__
