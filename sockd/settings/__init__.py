# SPDX-License-Identifier: MIT
"""What can be set: frozen dataclasses, each field with unit, default and source.

The names of the fields are the keys of sockd.toml.  Reading and checking a file
belongs to sockd.config.load; nothing here imports or opens anything.
"""

# ruff: noqa: TC001 - setting() is a field specifier, typed and used like dataclasses.field; annotations are read

from __future__ import annotations

from sockd.settings.daemon import DaemonSettings, LogFormat, LogLevel, LogSettings, Multiplexer
from sockd.settings.field import MIB, setting, toml_key
from sockd.settings.listen import ListenSettings
from sockd.settings.relay import RelaySettings
from sockd.settings.service import ServiceSettings
from sockd.settings.socks import SocksSettings
from sockd.settings.tls import TlsSettings
from sockd.units import Duration, Size
from sockd.values import dataclass

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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole configuration: the keys of sockd.toml."""

    include: tuple[str, ...] = setting(
        (),
        help='files that belong to the configuration, too: "conf.d/*.toml", relative to it; each has tables of its own',
        source="read in the order of their names; a service or a key of [daemon] must be in one file only",
    )
    daemon: DaemonSettings = setting(DaemonSettings, help="the process", source="")
    listen: tuple[ListenSettings, ...] = setting((), help="the listeners", source="")
    service: dict[str, ServiceSettings] = setting(dict, help="the services by name", source="")
