# SPDX-License-Identifier: MIT
"""What stands for a module until it is used, and the import of all that was not used yet.

A module of sockd is imported only from the files with which the process began: another version's, installed meanwhile,
would not fit with what is loaded.
"""

from __future__ import annotations

import os
import sys
import types
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from sockd import errors

_known: list[LazyModule] = []


def _identity() -> tuple[int, int, int] | None:
    """Tell these files from those of another installation in their place."""
    try:
        found = os.stat(__file__)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


_AT_START = _identity()


class LazyModule:
    """Stands for a module; a name that was asked for once is an attribute like any other.

    Args:
        name: of the module, with all of its packages.
        only_with: of one without which nobody uses this one.
        resident: a daemon has it from its start on; see load_resident().
    """

    __spec__ = None  # an import statement asks whether it is being imported

    def __init__(self, name: str, only_with: str = "", *, resident: bool = False) -> None:
        self.__name__ = name
        self._only_with = only_with
        self.resident = resident
        _known.append(self)

    def __getattr__(self, name: str) -> object:
        value = getattr(self.load(), name)
        setattr(self, name, value)
        return value

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}, imported when it is used>"

    @property
    def may_be_used(self) -> bool:
        """Whether somebody may use it, as far as is known now."""
        return not self._only_with or self._only_with in sys.modules

    def load(self) -> ModuleType:
        """Import it.

        Raises:
            SystemFault: it cannot be imported, or no more.
        """
        known = sys.modules.get(self.__name__)
        if known is self:  # type: ignore[comparison-overlap]  # see without()
            del sys.modules[self.__name__]
        elif known is not None:
            return known
        if self.__name__.startswith("sockd.") and _identity() != _AT_START:
            why = "its files are gone, or another version's, since this process was started"
            raise errors.SystemFault(f"{self.__name__} cannot be imported: {why}; sockctl upgrade, or restart it")
        try:
            return import_module(self.__name__)
        except ImportError as error:
            raise errors.SystemFault(f"{self.__name__} cannot be imported: {error}; restart the daemon") from error


def lazily(name: str, *, only_with: str = "", resident: bool = False) -> LazyModule:
    """Return what stands for a module until it is used; a type checker is to know the module itself.

    Args:
        name: of the module, with all of its packages.
        only_with: of one without which nobody uses this one.
        resident: a daemon may need it at a stop, a reload or a failure, when its files may be another version's; a run
            that serves one connection, or only prints something, does not.
    """
    return LazyModule(name, only_with, resident=resident)


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let what the body imports get these modules when it uses them; whoever imports them later gets the real ones.

    They are resident: a daemon that has no descriptor left may need one.

    Args:
        names: of modules that those of the body import, and seldom use.
    """
    absent = {name: LazyModule(name, resident=True) for name in names if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]  # which it stands for
    try:
        yield
    finally:
        for name, one in absent.items():
            if sys.modules.get(name) is one:  # type: ignore[comparison-overlap]  # as above
                del sys.modules[name]


def load(*modules: object) -> None:
    """Import these now, for they may be needed when their files are another version's: at a stop, in a restart.

    Raises:
        SystemFault: one cannot be imported.
    """
    for one in modules:
        if isinstance(one, LazyModule):  # the type checker takes it for the module
            one.load()


def load_resident() -> None:
    """Import what a daemon has from its start on.

    Raises:
        SystemFault: something cannot be imported.
    """
    for one in _known:  # which grows
        if one.resident:
            one.load()
    _resolve_lazy_imports()


def load_all() -> None:
    """Import every module that stands here for later, and those that they name in their turn.

    One that cannot be imported, such as ssl where Python was built without it, is refused where it is used.
    """
    for one in _known:  # which grows
        if one.may_be_used:
            with suppress(errors.SystemFault):
                one.load()
    _resolve_lazy_imports()


def _resolve_lazy_imports() -> None:
    """Import what modules of others, as those of the standard library, leave to the first use of a name.

    A statement `lazy import`, or `__lazy_modules__`; source: PEP 810, from CPython 3.15 on.
    """
    lazy = getattr(types, "LazyImportType", None)
    before = 0
    while lazy and before != len(sys.modules):  # what is imported may have lazy imports of its own
        before = len(sys.modules)
        for module in list(sys.modules.values()):
            for value in list(getattr(module, "__dict__", {}).values()):
                if type(value) is lazy:
                    with suppress(Exception):  # as in load_all(): refused where it is used
                        value.resolve()


if not TYPE_CHECKING:
    errors = lazily("sockd.errors")

__all__ = ["LazyModule", "lazily", "load", "load_all", "load_resident", "without"]
