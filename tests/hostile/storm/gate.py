# SPDX-License-Identifier: MIT
"""Threads that work between go() and rest(), and are waited for."""

from __future__ import annotations

import threading


class Gate:
    """Open from go() to rest(), which returns once everybody has left.

    A thread works `with gate:`, which waits until it is open, and looks at `is_open` from time to time.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._within = 0
        self.is_open = False

    def __enter__(self) -> Gate:
        with self._change:
            self._change.wait_for(lambda: self.is_open)
            self._within += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._within -= 1
            self._change.notify_all()

    def go(self) -> None:
        with self._change:
            self.is_open = True
            self._change.notify_all()

    def rest(self) -> None:
        with self._change:
            self.is_open = False
            self._change.wait_for(lambda: not self._within)
