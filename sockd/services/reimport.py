# SPDX-License-Identifier: MIT
"""Handlers imported again, for a reload: their code as it is on the disk now, or, if that fails, all as before.

What is forgotten are the modules of the handlers' own packages, and all others that are
neither Python's, nor installed, nor sockd's: what an author edits.  Extension modules stay,
for most cannot be loaded twice.
"""

from __future__ import annotations

import importlib
import linecache
import os
import sys
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

from sockd.lazy import sysconfig
from sockd.services.loader import drop_doubtful_bytecode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

KEPT = ("sockd", "__main__", "__mp_main__")


@cache
def installed() -> tuple[str, ...]:
    """Return the directories of Python and of what is installed; asked at a start, for it reads a file."""
    return tuple(sysconfig.get_paths()[key] + os.sep for key in ("stdlib", "platstdlib", "purelib", "platlib"))


class ImportedAnew:
    """Has the body import handlers from the disk; if it raises, every module is restored.

    An ExitStack that is given up, where all went well, leaves what was imported: so this is no generator, which its
    end would close, as if something had been raised.

    Args:
        handlers: module:attribute texts.
    """

    def __init__(self, handlers: Iterable[str]) -> None:
        self._packages = {text.partition(":")[0].partition(".")[0] for text in handlers}
        self._forgotten: dict[str, ModuleType] = {}
        self._known: set[str] = set()

    def __enter__(self) -> None:
        importlib.invalidate_caches()  # finders can be anybody's, and fail: before anything is forgotten
        linecache.checkcache()
        modules = list(sys.modules.items())
        self._forgotten = {name: module for name, module in modules if _is_authors(name, module, self._packages)}
        self._known = set(sys.modules) - set(self._forgotten)
        for name, module in self._forgotten.items():
            drop_doubtful_bytecode(module)
            sys.modules.pop(name, None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            return
        for name in set(sys.modules) - self._known:
            if _is_authors(name, sys.modules[name], self._packages):
                del sys.modules[name]
        sys.modules.update(self._forgotten)


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
    return top in packages or not os.path.abspath(file).startswith(installed())
