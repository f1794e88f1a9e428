# SPDX-License-Identifier: MIT
"""From a name in the configuration to a service as it will run.

A name is a [service] table, a built-in, or `module:attribute`.  A limit is what
the table says, else what the handler's own Service says, else the default.
"""

from __future__ import annotations

import math
import resource
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from sockd.errors import HandlerError
from sockd.net.address.address import Address
from sockd.net.connection.codec import bytes_of
from sockd.services import loader
from sockd.services.api import Service
from sockd.services.builtin import BUILTINS
from sockd.services.handlers.adapters import text_batch, text_function
from sockd.services.spec import Limits, Program, ServiceSpec
from sockd.settings import service as defaults
from sockd.settings.relay import DEFAULT_MAX_RELAYED
from sockd.settings.service import FramingSettings, ProgramLimits, ServiceSettings
from sockd.settings.socks import DEFAULT_MAX_CLIENTS
from sockd.wire.framing import (
    BlankLine,
    Delimiter,
    DotBlock,
    Fixed,
    Line,
    Netstring,
    Nul,
    OctetCount,
    Prefix,
    Raw,
    Record,
    StrictLine,
    Varint,
    datagram_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sockd.services.api import BatchFunction, Reply
    from sockd.settings import RelaySettings, SocksSettings
    from sockd.settings.service import FramingName
    from sockd.wire.framing import Frame, Framing


def resolve(name: str, tables: Mapping[str, ServiceSettings]) -> ServiceSpec:
    """Decide everything about a service.

    Args:
        name: as in `service = "..."` of a listener.
        tables: the [service] tables.

    Raises:
        HandlerError: the handler cannot be imported or is none.
    """
    table = tables.get(name)
    if table is None:
        table = ServiceSettings(builtin=name) if name in BUILTINS else ServiceSettings(handler=name)
    if table.what is not None:
        return _of_builtin(name, table, table.what)
    if table.exec is not None:
        return _of_program(name, table, table.exec)
    if table.relay is not None:
        return _of_relay(name, table, table.relay)
    if table.socks is not None:
        return _of_socks(name, table, table.socks)
    assert table.handler is not None
    return _of_handler(name, table, loader.find(table.handler))


def of_service(name: str, service: Service) -> ServiceSpec:
    """Decide everything about a Service that no configuration speaks of."""
    return _of_handler(name, ServiceSettings(), service)


def _of_builtin(name: str, table: ServiceSettings, what: str) -> ServiceSpec:
    builtin = BUILTINS[what]
    return ServiceSpec(
        name=name,
        framing=framing_of(table, None, builtin.framing),
        limits=_limits(table, Service()),
        serve=builtin.serve,
        protocol=builtin.protocol,
        datagram=builtin.datagram,
        goodbye=_goodbye(table, None),
        small=True,
        pages=what == "metrics",
    )


def _of_program(name: str, table: ServiceSettings, argv: tuple[str, ...]) -> ServiceSpec:
    limits = table.limits or ProgramLimits()
    program = Program(
        argv=argv,
        user=table.user,
        group=table.group,
        environment=defaults.DEFAULT_ENVIRONMENT if table.environment is None else table.environment,
        stderr=table.stderr or defaults.DEFAULT_STDERR,
        limits=tuple(_resource_limits(limits)),
        wall=limits.wall,
        max_instances=table.max_instances or defaults.DEFAULT_MAX_INSTANCES,
    )
    return ServiceSpec(name=name, framing=Raw(), limits=_limits(table, Service()), program=program)


def _of_socks(name: str, table: ServiceSettings, socks: SocksSettings) -> ServiceSpec:
    limits = replace(_limits(table, Service()), max_connections=table.max_connections or DEFAULT_MAX_CLIENTS)
    return ServiceSpec(name=name, framing=Raw(), limits=limits, socks=socks)


def _of_relay(name: str, table: ServiceSettings, relay: RelaySettings) -> ServiceSpec:
    limits = replace(_limits(table, Service()), max_connections=table.max_connections or DEFAULT_MAX_RELAYED)
    return ServiceSpec(
        name=name, framing=Raw(), limits=limits, relay=replace(relay, to=tuple(map(_numbered, relay.to)))
    )


def _numbered(text: str) -> str:
    """Look the port of an address up, while services(5) can be read."""
    address = Address.parse(text)
    return text if address.path else str(replace(address, port=address.port_number()))


def _resource_limits(limits: ProgramLimits) -> Iterator[tuple[int, int, int]]:
    """Yield (RLIMIT_*, soft, hard); processor time has a second between XCPU and KILL (setrlimit(2))."""
    if limits.cpu is not None:
        seconds = math.ceil(limits.cpu)
        yield resource.RLIMIT_CPU, seconds, seconds + 1
    for kind, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, limits.file_size),
    ):
        if most is not None:
            yield kind, int(most), int(most)


def _of_handler(name: str, table: ServiceSettings, service: Service) -> ServiceSpec:
    text = table.handler or name
    raw = service.protocol is not None and loader.takes_raw_data(service.protocol)
    framing = framing_of(table, service.framing, "raw" if raw else "line")
    if service.coroutine is not None and not isinstance(framing, Line | Raw):
        raise HandlerError(f"{text}: a coroutine reads lines or bytes, not frames of {type(framing).__name__}")
    wants_connection = service.function is not None and loader.wants_connection(service.function, text)
    function, batch = service.function, service.batch
    if service.text is not None:
        function = None if function is None else text_function(function, service.text)
        batch = None if batch is None else text_batch(batch, service.text)
    datagram = None
    if batch is not None:
        datagram = _datagram(partial(_batch_of_one, batch), framing)
    elif function is not None and not wants_connection:
        datagram = _datagram(function, framing)
    return ServiceSpec(
        name=name,
        framing=framing,
        limits=_limits(table, service),
        function=function,
        wants_connection=wants_connection,
        batch=batch,
        protocol=service.protocol,
        session=service.coroutine,
        blocking=_is_blocking(table, service, text, wants_connection=wants_connection),
        startup=tuple(service.at_startup),
        shutdown=tuple(service.at_shutdown),
        datagram=datagram,
        goodbye=_goodbye(table, service.goodbye),
    )


def _goodbye(table: ServiceSettings, own: bytes | None) -> bytes:
    return table.goodbye.encode("utf-8", "surrogateescape") if table.goodbye is not None else own or b""


def _is_blocking(table: ServiceSettings, service: Service, text: str, *, wants_connection: bool) -> bool:
    wanted = service.blocking if table.blocking is None else table.blocking
    if not wanted:
        return False
    if service.coroutine is not None or service.protocol is not None:
        kind = "coroutine" if service.coroutine is not None else "protocol class"
        raise HandlerError(f"{text}: blocking = true is for functions; a {kind} is called in the loop")
    if wants_connection:
        raise HandlerError(
            f"{text}: a blocking function takes the frame alone; connections belong to the loop's thread"
        )
    return True


def _batch_of_one(function: BatchFunction, frame: Frame) -> Reply:
    replies = function([frame])
    if not isinstance(replies, list):
        return replies or None
    if len(replies) != 1:
        raise ValueError(f"the handler returned {len(replies)} replies to 1 frames")
    return replies[0]


def _limits(table: ServiceSettings, service: Service) -> Limits:
    def pick(key: str, default: float) -> float:
        for value in (getattr(table, key), service.limits[key]):
            if value is not None:
                return float(value)
        return default

    most = int(pick("max_connections", 0))
    return Limits(
        idle_timeout=pick("idle_timeout", defaults.DEFAULT_IDLE_TIMEOUT),
        frame_timeout=pick("frame_timeout", defaults.DEFAULT_FRAME_TIMEOUT),
        write_timeout=pick("write_timeout", defaults.DEFAULT_WRITE_TIMEOUT),
        linger_timeout=pick("linger_timeout", defaults.DEFAULT_LINGER_TIMEOUT),
        high_water=int(pick("high_water", defaults.DEFAULT_HIGH_WATER)),
        max_buffer=int(pick("max_buffer", defaults.DEFAULT_MAX_BUFFER)),
        max_connections=most or None,
    )


def _datagram(function: Callable[..., Reply], framing: Framing) -> Callable[[bytes], bytes | None]:
    """One datagram is one frame: its payload alone, but a line's ending is taken off and put back."""

    def answer_line(datagram: bytes) -> bytes | None:
        frame, ending = datagram_frame(datagram)
        reply = function(frame)
        return None if reply is None else bytes_of(reply) + ending

    def answer_record(datagram: bytes) -> bytes | None:
        assert isinstance(framing, Record)
        reply = function(framing.unpack(datagram))
        return None if reply is None else framing.pack(reply)

    def answer_payload(datagram: bytes) -> bytes | None:
        reply = function(datagram)
        return None if reply is None else bytes_of(reply)

    if isinstance(framing, Line):
        return answer_line
    return answer_record if isinstance(framing, Record) else answer_payload


_OF_LIMIT: dict[str, type[StrictLine | Nul | Netstring | Varint | DotBlock | BlankLine]] = {
    "strict-line": StrictLine,
    "nul": Nul,
    "netstring": Netstring,
    "varint": Varint,
    "dot-block": DotBlock,
    "blank-line": BlankLine,
}


_ENDINGS: dict[str, bytes | Literal["same"]] = {"lf": b"\n", "crlf": b"\r\n", "same": "same"}


def framing_of(table: ServiceSettings, own: Framing | None, default: FramingName) -> Framing:
    """Decide how a service's stream is cut.

    Args:
        table: of the service; sockd.config.load has checked it.
        own: what the handler's Service says.
        default: where neither says anything.
    """
    said = table.framing
    if said is None and own is not None:
        if table.max_frame is None or isinstance(own, Fixed | Record | Raw):
            return own
        return replace(own, max_bytes=table.max_frame)
    given = said if isinstance(said, FramingSettings) else FramingSettings(type=said or default)
    return _made(given, table.max_frame, own)


def _made(given: FramingSettings, max_frame: int | None, own: Framing | None) -> Framing:
    kind = given.type or defaults.DEFAULT_FRAMING
    own_limit = own.max_bytes if own is not None and not isinstance(own, Fixed | Record | Raw) else None
    limit = given.max or max_frame or own_limit or defaults.DEFAULT_MAX_FRAME
    if kind == "raw":
        return Raw(given.max) if given.max else Raw()
    if kind == "line":
        own_ending = own.ending if isinstance(own, Line) else b"\n"
        return Line(limit, _ENDINGS[given.ending] if given.ending else own_ending)
    if kind == "delimiter":
        return Delimiter(limit, (given.delimiter or "").encode())
    if kind == "prefix":
        return Prefix(limit, given.width or 0, given.order or "big", bool(given.includes_header))
    if kind == "octet-count":
        return OctetCount(limit, mixed=bool(given.mixed))
    if kind == "fixed":
        return Fixed(given.size or 0)
    if kind == "record":
        return Record(given.format or "")
    return _OF_LIMIT[kind](limit)


__all__ = ["framing_of"]
