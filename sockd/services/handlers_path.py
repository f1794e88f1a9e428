"""Where modules of handlers are looked for besides Python's own path: one folder, behind all others.

It is the folder of the configuration; where there is none, the current one.  It is behind, so that nothing in it takes
the place of a module of Python's or of sockd's, and it is there only once a handler is to be imported.
"""

from __future__ import annotations

import sys

from sockd.trusted import why_not_imported


class _Place:
    folder: str | None = None
    why_not = ""


_place = _Place()


def look_in(folder: str | None) -> None:
    """Have handlers looked for in a folder from now on.

    Args:
        folder: absolute, by the name that it was called, which may be a link to another one by the next reload.
    """
    _place.folder, _place.why_not = folder, ""


def add() -> None:
    """Add the folder to sys.path, if it is not there, and if root may import what is in it."""
    folder = _place.folder
    if folder is None or folder in sys.path:
        return
    _place.why_not = why_not_imported(folder)
    if not _place.why_not:
        sys.path.append(folder)


def told() -> tuple[str, str]:
    """Return the folder, and why root does not import from it; empty where there is none, or no reason."""
    return _place.folder or "", _place.why_not


__all__ = ["add", "look_in", "told"]
