# SPDX-License-Identifier: MIT
"""Handlers imported anew, for a reload: their code as it stands on the disk now, or, if that fails, all as it was.

What is forgotten are the modules of the handlers' own packages, and all others that are
neither Python's, nor installed, nor sockd's: what an author edits.  Extension modules stay,
for most cannot be loaded twice.
"""

from __future__ import annotations

import importlib
import linecache
import os
import sys
import sysconfig
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

KEPT = ("sockd", "__main__", "__mp_main__")
INSTALLED = tuple(sysconfig.get_paths()[key] + os.sep for key in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Asked for at a start: whoever serves may not be allowed to read what the answer is made from."""


@contextmanager
def imported_anew(handlers: Iterable[str]) -> Iterator[None]:
    """Have the body import handlers from the disk.

    Args:
        handlers: module:attribute texts.

    Raises:
        Exception: what the body raised; every module is then the one that it was.
    """
    packages = {text.partition(":")[0].partition(".")[0] for text in handlers}
    forgotten = {name: module for name, module in list(sys.modules.items()) if _is_authors(name, module, packages)}
    for name in forgotten:
        del sys.modules[name]
    importlib.invalidate_caches()
    linecache.checkcache()
    known = set(sys.modules)
    try:
        yield
    except BaseException:
        for name in set(sys.modules) - known:
            if _is_authors(name, sys.modules[name], packages):
                del sys.modules[name]
        sys.modules.update(forgotten)
        raise


def authors_files() -> list[str]:
    """Name the files of the modules that an author edits: those that are neither Python's, nor installed, nor ours."""
    modules = [(name, module) for name, module in list(sys.modules.items()) if _is_authors(name, module, set())]
    return sorted({file for _, module in modules if (file := getattr(module, "__file__", None))})


def _is_authors(name: str, module: ModuleType | None, packages: set[str]) -> bool:
    top = name.partition(".")[0]
    if top in KEPT:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return top in packages and hasattr(module, "__path__")  # a namespace package
    if file.endswith(tuple(EXTENSION_SUFFIXES)):
        return False
    return top in packages or not os.path.abspath(file).startswith(INSTALLED)
