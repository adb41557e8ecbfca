"""Whether a file has changed since it was read."""

import os
from typing import Optional, Tuple

Stamp = Optional[Tuple[int, int, int, int]]


def stamp(path: str) -> Stamp:
    """Return what changes when *path* is rewritten or replaced; None if it cannot be seen."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    # The time of change too: a copy may keep the time of modification, size and inode number.
    return (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino)


def read(path: str) -> bytes:
    """Return the content of *path*."""
    with open(path, "rb") as stream:
        return stream.read()
