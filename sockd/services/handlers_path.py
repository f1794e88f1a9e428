# SPDX-License-Identifier: MIT
"""The path of handler modules besides Python's own: one directory, after all others.

It is `path` of [daemon]; without that, the directory of the configuration; without one, the current directory.  It
comes last, so that nothing in it replaces a module of Python or of sockd, and it is added only when a handler is to be
imported.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sockd.lazy import lazily

if TYPE_CHECKING:
    from sockd.files import trusted
else:
    trusted = lazily("sockd.files.trusted")


class _Place:
    beside: str | None = None
    configured: str | None = None
    added: str | None = None
    why_not = ""


_place = _Place()


def look_in(directory: str | None) -> None:
    """Have handlers looked for in a directory from now on, unless a configuration names another one.

    Args:
        directory: absolute, by the name that it was called, which may be a link to another one by the next reload.
    """
    _place.beside, _place.why_not = directory, ""


def configure(path: str | None) -> None:
    """Set the directory that a configuration names; it replaces what was there, also for imports within handlers.

    Args:
        path: absolute; None for that of look_in().
    """
    _place.configured = path
    if _place.added is not None:
        add()


def add() -> None:
    """Add the directory to sys.path, if root may import what is in it, and remove the one that was added before."""
    directory = _directory()
    if _place.added is not None and _place.added != directory:
        sys.path.remove(_place.added)
        _place.added = None
    _place.why_not = ""
    if directory is None or directory in sys.path:
        return
    _place.why_not = trusted.why_not_imported(directory)
    if not _place.why_not:
        sys.path.append(directory)
        _place.added = directory


def current() -> tuple[str, str]:
    """Return the directory, and why root does not import from it; empty where there is none, or no reason."""
    return _directory() or "", _place.why_not


def _directory() -> str | None:
    return _place.configured or _place.beside


__all__ = ["add", "configure", "current", "look_in"]
