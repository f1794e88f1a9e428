# SPDX-License-Identifier: MIT
"""argparse, as both commands use it: --help as wide as the terminal, and an output that fails is not ignored."""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from sockd.cli.output import OUTPUT

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

DEFAULT_COLUMNS = 80
MAX_COLUMN_DIGITS = 6


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Return argparse's; one is made for each option, and would import shutil to ask how wide the terminal is."""
    return argparse.HelpFormatter(prog, width=_columns() - 2)


@cache
def _columns() -> int:
    """Return the width of the terminal, as shutil.get_terminal_size()."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and len(given) <= MAX_COLUMN_DIGITS and int(given):
        return int(given)
    try:
        return os.get_terminal_size(OUTPUT).columns or DEFAULT_COLUMNS
    except OSError:  # no terminal
        return DEFAULT_COLUMNS


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


class Parser(argparse.ArgumentParser):
    """argparse, but an output that cannot be written is an error."""

    def __init__(self, **about: Any) -> None:  # noqa: ANN401 - what a later Python adds
        super().__init__(**{"formatter_class": _formatter, **about})
        self.register("type", int, _whole_number)

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if message:
            (file or sys.stderr).write(message)


__all__ = ["Parser"]
