# SPDX-License-Identifier: MIT
"""Regular expressions that are compiled when they are first used.

Compiling one takes a tenth to half a millisecond, as long as importing a module, and most are for texts that only some
configurations have.  A mistake in an expression is found by the tests (tests/lazy/test_patterns.py), which compile all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

KNOWN: list[LatePattern] = []
"""Every one that was declared, for the tests."""


class LatePattern:
    """Stands for a compiled expression; a method that was asked for once is an attribute like any other.

    Args:
        text: the expression.
        flags: as for re.compile().
    """

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text, self._flags = text, flags
        KNOWN.append(self)

    def __getattr__(self, name: str) -> object:
        value = getattr(self.compile(), name)
        setattr(self, name, value)
        return value

    def __repr__(self) -> str:
        return f"pattern({self._text!r})"

    def compile(self) -> re.Pattern[str]:
        """Compile it; the re module keeps what was compiled lately.

        Raises:
            re.error: it is no regular expression.
        """
        return re.compile(self._text, self._flags)


if TYPE_CHECKING:
    from re import compile as pattern
else:
    pattern = LatePattern

__all__ = ["LatePattern", "pattern"]
