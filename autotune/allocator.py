"""What the C library does with memory that is freed, where it is glibc; elsewhere nothing here does anything."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# mallopt(3)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NEVER = -1


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within it the main thread's freed memory stays with the process; it is given back at the end.

    Otherwise the system maps each large tensor anew and zeroes it page by page, which takes longer than to compute what
    is in it. What is kept has holes, so that up to twice the memory is taken.
    """
    if not _is_glibc():
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        # What glibc itself comes to in a process that frees large blocks; once set, it does not move them any more.
        library.mallopt(_M_MMAP_MAX, 65536)
        library.mallopt(_M_MMAP_THRESHOLD, 2**25)
        library.mallopt(_M_TRIM_THRESHOLD, 2**26)
        give_back()


def give_back() -> None:
    """Give the system what is freed but kept."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


@cache
def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
