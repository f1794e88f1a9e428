# SPDX-License-Identifier: MIT
"""What can be set: frozen dataclasses, each field with unit, default and source.

The names of the fields are the keys of sockd.toml.  Reading and checking a file
belongs to sockd.config.load; nothing here imports or opens anything.
"""

# ruff: noqa: TC001, TC003 - setting() is a field specifier, typed and used like dataclasses.field; annotations are read

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sockd.errors import SockdError
from sockd.settings.daemon import DaemonSettings, LogFormat, LogLevel, LogSettings, Multiplexer
from sockd.settings.field import MIB, setting, toml_key
from sockd.settings.listen import ListenSettings
from sockd.settings.relay import RelaySettings
from sockd.settings.service import ServiceSettings
from sockd.settings.socks import SocksSettings
from sockd.settings.tls import TlsSettings
from sockd.text import KeyPath
from sockd.units import Duration, Size
from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MIB",
    "DaemonSettings",
    "Duration",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "Multiplexer",
    "RelaySettings",
    "Settings",
    "Size",
    "SocksSettings",
    "TlsSettings",
    "toml_key",
]


def _nowhere(key: KeyPath) -> tuple[str, KeyPath]:
    return "", key


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole configuration: the keys of sockd.toml, and where they are written.

    Attributes:
        find_place: returns where a key is written, as `file:line` or the option of a command line, and its path there.
    """

    include: tuple[str, ...] = setting(
        (),
        help='files that belong to the configuration, too: "conf.d/*.toml", relative to it; each has tables of its own',
        source="read in the order of their names; a service or a key of [daemon] must be in one file only",
    )
    daemon: DaemonSettings = setting(DaemonSettings, help="the process", source="")
    listen: tuple[ListenSettings, ...] = setting((), help="the listeners", source="")
    service: dict[str, ServiceSettings] = setting(dict, help="the services by name", source="")
    find_place: Callable[[KeyPath], tuple[str, KeyPath]] = field(default=_nowhere, repr=False, compare=False)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Have errors that are raised within say where their key is written."""
        try:
            yield
        except SockdError as error:
            self.locate(error)
            raise

    def locate(self, error: SockdError) -> SockdError:
        """Have an error say where its key is written, if it has one."""
        if error.key and not error.place:
            error.place, error.key = self.find_place(self._written(error.key))
        return error

    def _written(self, key: KeyPath) -> KeyPath:
        """Return the key of the listener that names the handler or the built-in of a service without a table."""
        if key[0] != "service" or key[1] in self.service:
            return key
        return next((("listen", at, "service") for at, one in enumerate(self.listen) if one.service == key[1]), key)
