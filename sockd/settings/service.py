# SPDX-License-Identifier: MIT
"""Settings of a service: of which kind it is, and which keys go with each kind.

The list of kinds that a configuration can select: the fields of KindSettings.  Each defines its name in messages, and
which other keys apply to it; sockd.services.kinds has the implementation.
"""

# ruff: noqa: TC001 - setting() is a field specifier, typed and used like dataclasses.field; annotations are read

from __future__ import annotations

from typing import Literal

from sockd.settings.builtin import BUILTINS
from sockd.settings.field import setting, textual
from sockd.settings.framing import FRAMED, FrameSettings
from sockd.settings.limits import LIMITS, LimitSettings
from sockd.settings.program import ProgramSettings
from sockd.settings.relay import RelaySettings
from sockd.settings.socks import SocksSettings
from sockd.settings.tcpmux import TcpmuxName, read_name
from sockd.values import dataclass, fields

TooLong = Literal["close", "skip", "cut"]
Unfinished = Literal["drop", "deliver"]

PROGRAM_KEYS = tuple(field.name for field in fields(ProgramSettings))
*_OTHERS, _LAST = BUILTINS


@dataclass(frozen=True, kw_only=True)
class HandlerSettings:
    """The keys of [service.NAME] that only a handler has."""

    blocking: bool | None = setting(
        None,
        help="the handler is a function that may block: run it in one of the [daemon] threads",
        source="default false: a function is called in the event loop",
    )
    max_in_flight: int | None = setting(
        None,
        help="async def f(line): calls that run at the same time for one connection; replies keep their order",
        source="default 1: a call starts when the previous one has ended",
        otherwise=1,
        unit="calls",
        low=1,
        high=1000,
    )
    too_long: TooLong | None = setting(
        None,
        help='a frame longer than max_frame: "close" the connection, "skip" it, or "cut" it; for framings with an end',
        source="default close: what follows may be anything",
    )
    unfinished: Unfinished | None = setting(
        None,
        help='a last frame without its end, at the end of file: "drop" it, or "deliver" it; for framings with an end',
        source="default drop: it may have been cut off",
    )
    datagram_lines: bool | None = setting(
        None,
        help="each line of a datagram is a frame, and their replies leave in one datagram",
        source="default false: a datagram is one frame",
    )


HANDLER_KEYS = tuple(field.name for field in fields(HandlerSettings))


@dataclass(frozen=True)
class KindRules:
    """What a kind of service may be combined with.

    Attributes:
        what: it is called in messages, and why other keys have no meaning for it.
        example: how it is written.
        keys: keys of [service.NAME] that have a meaning for it.
        instead: of a key that has none, the key that is meant.
    """

    what: str
    example: str
    keys: tuple[str, ...]
    instead: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class KindSettings:
    """The keys of [service.NAME] that say what serves."""

    handler: str | None = setting(
        None,
        help="Python handler, as module:attribute",
        source="",
        rules=KindRules("a handler", 'handler = "module:attribute"', (*FRAMED, *HANDLER_KEYS, *LIMITS)),
    )
    builtin: str | None = setting(
        None,
        help=f"built-in service: {', '.join(_OTHERS)} or {_LAST}",
        source="FAQ App. A, RFC 862 to RFC 868",
        rules=KindRules("a built-in, which never blocks", 'builtin = "upper"', (*FRAMED, *LIMITS)),
    )
    exec: tuple[str, ...] | None = setting(
        None,
        help="program and arguments, started for each connection",
        source="inetd(8), nowait",
        rules=KindRules(
            "a program, which reads and writes the socket itself",
            'exec = ["/path"]',
            PROGRAM_KEYS,
            instead=(("max_connections", "max_instances"),),
        ),
    )
    tcpmux: tuple[TcpmuxName, ...] | None = setting(
        None,
        help="names that a client may send in its first line, each a service with exec: NAME, +NAME (sockd answers "
        '"+Go" first) or NAME=SERVICE',
        source="RFC 1078; inetd(8), tcpmux",
        parse=textual(read_name),
        rules=KindRules(
            "tcpmux, which passes its clients on to programs",
            'tcpmux = ["+rsync"]',
            ("max_connections",),
        ),
    )
    relay: RelaySettings | None = setting(
        None,
        help="forward each connection to a target",
        source="FAQ III.5",
        rules=KindRules(
            "a relay, which does not parse the stream; its own timeouts are in relay = { ... }",
            'relay = { to = ["tcp://host:port"] }',
            ("idle_timeout", "max_connections"),
        ),
    )
    socks: SocksSettings | None = setting(
        None,
        help="SOCKS server, which connects on behalf of its clients",
        source="RFC 1928, RFC 1929, FAQ III.2",
        rules=KindRules(
            "a SOCKS server; its settings are in socks = { ... }",
            "socks = {}",
            ("max_connections",),
        ),
    )
    metrics: bool | None = setting(
        None,
        help='true: serve the daemon\'s metrics over HTTP; the same as builtin = "metrics"',
        source="",
        rules=KindRules("the metrics, which are HTTP", "metrics = true", ("max_frame", "goodbye", *LIMITS)),
    )


KINDS: dict[str, KindRules] = {field.name: field.metadata["rules"] for field in fields(KindSettings)}
"""The keys of which a service has exactly one."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(LimitSettings, FrameSettings, HandlerSettings, ProgramSettings, KindSettings):
    """[service.NAME]; None means: as the handler's own Service says, else the default."""

    @property
    def kinds(self) -> list[str]:
        """The keys of KINDS that are given: one, where the settings are checked."""
        return [key for key in KINDS if getattr(self, key) is not None]

    @property
    def what(self) -> str | None:
        """Which built-in it is; None for all other kinds."""
        return "metrics" if self.metrics else self.builtin


SERVICE_KEYS = tuple(field.name for field in fields(ServiceSettings) if field.name not in KINDS)
"""Every key of [service.NAME] that goes with some kinds."""


__all__ = [
    "KINDS",
    "PROGRAM_KEYS",
    "SERVICE_KEYS",
    "HandlerSettings",
    "KindRules",
    "ServiceSettings",
    "TooLong",
    "Unfinished",
]
