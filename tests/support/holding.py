# SPDX-License-Identifier: MIT
"""How much this process holds, for tests of leaks."""

from __future__ import annotations

import gc
import sys


def held() -> int:
    """Return how many blocks of memory are in use; in a debug build of Python, how many references."""
    gc.collect()
    gc.collect()  # without the global lock, the next one gives back what was freed by the first
    return getattr(sys, "gettotalrefcount", sys.getallocatedblocks)()
