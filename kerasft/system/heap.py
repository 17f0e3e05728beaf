"""Memory that operations take and give back at each step, kept by the process in between.

The C library (glibc) asks the system for each large block anew, and gives what is free at the end
of the heap back to it. TensorFlow's operations on a processor take and free blocks of megabytes all
the time: at each step the system then clears hundreds of thousands of pages, which took 5 to 40 %
of a step's time.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache
from typing import Any

# Of glibc's malloc.h: what is free beyond this at the end of the heap goes back (-1: nothing), what
# is taken beyond what is asked for, and how many blocks may be the system's own.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_STEP = 64 * 2**20


def keep() -> bool:
    """Have the process keep the memory that it frees, for as long as it lives.

    What an environment variable says of glibc's allocator stays: `MALLOC_TRIM_THRESHOLD_` and the
    like, or `GLIBC_TUNABLES`. Another system or C library is left as it is.

    Returns:
        Whether it does.

    Example:
        >>> keep() == keep()
        True
    """
    library = _library()
    if library is None or _is_set():
        return False
    return _kept(library)


@lru_cache(maxsize=1)
def _kept(library: Any) -> bool:
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _STEP))
    set_ = [library.mallopt(name, value) for name, value in options]  # each, whatever one says
    return all(set_)


def give_back() -> None:
    """Give the memory that is free back to the system, and go on keeping what is freed."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)


def _is_set() -> bool:
    names = [name for name in os.environ if name.startswith("MALLOC_") and name.endswith("_")]
    return bool(names) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")


@lru_cache(maxsize=1)
def _library() -> Any:
    """Return the C library, if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    known = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in known) else None
