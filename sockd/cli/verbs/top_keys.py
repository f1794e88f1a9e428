# SPDX-License-Identifier: MIT
"""The keys of `sockctl top`: what is shown, in which order, and the end."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SORTS = ("traffic", "frames", "unsent", "idle", "age", "peer")
"""Orders of the connections; all but the last one begin with the largest."""
ESCAPE, ENTER, BACKSPACE = "\x1b", ("\r", "\n"), ("\x7f", "\x08")
LONGEST_FILTER = 60


class TopView:
    """What a person has chosen.

    Attributes:
        sort: one of SORTS.
        filter: only rows whose service, listener or peer contains it.
        typed: the filter that is being typed; None while none is.
        is_over: quit.
    """

    def __init__(self) -> None:
        self.sort = SORTS[0]
        self.filter = ""
        self.typed: str | None = None
        self.is_over = False

    def press(self, key: str) -> None:
        """Handle a key."""
        if self.typed is not None:
            self._type(self.typed, key)
        elif key in ("q", "Q"):
            self.is_over = True
        elif key in ("s", "S"):
            step = 1 if key == "s" else -1
            self.sort = SORTS[(SORTS.index(self.sort) + step) % len(SORTS)]
        elif key in ("f", "/"):
            self.typed = self.filter
        elif key == ESCAPE:
            self.filter = ""

    def _type(self, typed: str, key: str) -> None:
        if key in ENTER:
            self.filter, self.typed = typed, None
        elif key == ESCAPE:
            self.typed = None
        elif key in BACKSPACE:
            self.typed = typed[:-1]
        elif key.isprintable() and len(typed) < LONGEST_FILTER:
            self.typed = typed + key

    def shows(self, *texts: str) -> bool:
        """Tell whether a row with these texts is shown."""
        return not self.filter or any(self.filter in text for text in texts)

    @property
    def help(self) -> str:
        """The last line of the screen."""
        if self.typed is not None:
            return f"filter: {self.typed}_   Enter applies it, Esc drops it"
        return f"s sort: {self.sort}   f filter: {self.filter or 'none'}   q quit"


@contextmanager
def keyboard() -> Iterator[int | None]:
    """Have keys come one by one, without being shown; yield their descriptor, None where there is no terminal."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def wait_for_keys(keys: int | None, view: TopView, seconds: float) -> bool:
    """Wait so long, or for a key, and handle it; tell whether there was one."""
    if keys is None:
        time.sleep(seconds)  # nothing else is waited for
        return False
    if not select.select([keys], [], [], max(seconds, 0.0))[0]:
        return False
    pressed = os.read(keys, 64).decode("utf-8", "ignore")
    if not pressed:
        view.is_over = True  # the terminal has gone
    for key in [ESCAPE] if pressed.startswith(ESCAPE) else pressed:  # the keys that send more than one have no meaning
        view.press(key)
    return True


__all__ = ["SORTS", "TopView", "keyboard", "wait_for_keys"]
