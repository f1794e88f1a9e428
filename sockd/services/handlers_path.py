# SPDX-License-Identifier: MIT
"""The path of handler modules besides Python's own: one directory, after all others.

It is the directory of the configuration; without one, the current directory.  It comes last, so that nothing in it
replaces a module of Python or of sockd, and it is added only when a handler is to be imported.
"""

from __future__ import annotations

import sys

from sockd.files.trusted import why_not_imported


class _Place:
    directory: str | None = None
    why_not = ""


_place = _Place()


def look_in(directory: str | None) -> None:
    """Have handlers looked for in a directory from now on.

    Args:
        directory: absolute, by the name that it was called, which may be a link to another one by the next reload.
    """
    _place.directory, _place.why_not = directory, ""


def add() -> None:
    """Add the directory to sys.path, if it does not exist, and if root may import what is in it."""
    directory = _place.directory
    if directory is None or directory in sys.path:
        return
    _place.why_not = why_not_imported(directory)
    if not _place.why_not:
        sys.path.append(directory)


def told() -> tuple[str, str]:
    """Return the directory, and why root does not import from it; empty where there is none, or no reason."""
    return _place.directory or "", _place.why_not


__all__ = ["add", "look_in", "told"]
