# SPDX-License-Identifier: MIT
"""Where modules of handlers are looked for besides Python's own path: one directory, behind all others.

It is the directory of the configuration; where there is none, the current one.  It is behind, so that nothing in it
takes the place of a module of Python's or of sockd's, and it is there only once a handler is to be imported.
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
    """Add the directory to sys.path, if it is not there, and if root may import what is in it."""
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
