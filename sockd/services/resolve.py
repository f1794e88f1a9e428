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
from typing import TYPE_CHECKING, cast

from sockd.errors import HandlerError
from sockd.net.address.address import Address
from sockd.net.connection.codec import bytes_of
from sockd.services import loader
from sockd.services.api import is_async
from sockd.services.builtin import CODE
from sockd.services.handlers.text import TextFactory, text_batch, text_coroutine, text_function
from sockd.services.spec import Program, ServiceSpec
from sockd.settings.builtin import BUILTINS
from sockd.settings.field import otherwise_of
from sockd.settings.framing import framing_of
from sockd.settings.limits import decided
from sockd.settings.program import ProgramLimits, ProgramSettings
from sockd.settings.relay import DEFAULT_MAX_RELAYED
from sockd.settings.service import HandlerSettings, ServiceSettings
from sockd.settings.socks import DEFAULT_MAX_CLIENTS
from sockd.wire.framing import Line, Raw, Record, datagram_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sockd.services.api import BatchFunction, Reply, Service
    from sockd.settings import RelaySettings, SocksSettings
    from sockd.settings.builtin import BuiltinName
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
        return _of_builtin(name, table, cast("BuiltinName", table.what))
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


def _of_builtin(name: str, table: ServiceSettings, what: BuiltinName) -> ServiceSpec:
    builtin = CODE[what]
    return ServiceSpec(
        name=name,
        framing=framing_of(table, None, BUILTINS[what].framing),
        limits=decided(table, {}),
        serve=builtin.serve,
        protocol=builtin.protocol,
        datagram=builtin.datagram,
        goodbye=_goodbye(table, None),
        small=True,
        pages=what == "metrics",
    )


def _of_program(name: str, table: ServiceSettings, argv: tuple[str, ...]) -> ServiceSpec:
    limits, otherwise = table.limits or ProgramLimits(), partial(otherwise_of, ProgramSettings)
    program = Program(
        argv=argv,
        user=table.user,
        group=table.group,
        environment=otherwise("environment") if table.environment is None else table.environment,
        stderr=table.stderr or otherwise("stderr"),
        limits=tuple(_resource_limits(limits)),
        wall=limits.wall,
        max_instances=table.max_instances or otherwise("max_instances"),
    )
    return ServiceSpec(name=name, framing=Raw(), limits=decided(table, {}), program=program)


def _of_socks(name: str, table: ServiceSettings, socks: SocksSettings) -> ServiceSpec:
    limits = replace(decided(table, {}), max_connections=table.max_connections or DEFAULT_MAX_CLIENTS)
    return ServiceSpec(name=name, framing=Raw(), limits=limits, socks=socks)


def _of_relay(name: str, table: ServiceSettings, relay: RelaySettings) -> ServiceSpec:
    limits = replace(decided(table, {}), max_connections=table.max_connections or DEFAULT_MAX_RELAYED)
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
    if service.text is not None:
        _check_text(service, text, framing)
    wants_connection = service.function is not None and loader.wants_connection(service.function, text)
    function, batch, is_coroutine = service.function, service.batch, is_async(service.function)
    if service.text is not None:
        wrap = text_coroutine if is_async(function) else text_function
        function = None if function is None else wrap(function, service.text)
        batch = None if batch is None else text_batch(batch, service.text)
    datagram = None
    if batch is not None:
        datagram = _datagram(partial(_batch_of_one, batch), framing)
    elif function is not None and not wants_connection and not is_coroutine:
        datagram = _datagram(function, framing)
    return ServiceSpec(
        name=name,
        framing=framing,
        limits=decided(table, service.limits),
        function=function,
        wants_connection=wants_connection,
        is_async=is_coroutine,
        max_in_flight=_in_flight(table, service, text),
        batch=batch,
        protocol=_protocol(service, is_said=table.framing is not None or service.framing is not None),
        session=service.coroutine,
        blocking=_is_blocking(table, service, text, wants_connection=wants_connection),
        startup=tuple(service.at_startup),
        shutdown=tuple(service.at_shutdown),
        datagram=datagram,
        goodbye=_goodbye(table, service.goodbye),
    )


def _in_flight(table: ServiceSettings, service: Service, text: str) -> int:
    wanted = service.max_in_flight if table.max_in_flight is None else table.max_in_flight
    if (wanted or 1) > 1 and not is_async(service.function):
        raise HandlerError(f"{text}: max_in_flight is for async def f(line)")
    return int(otherwise_of(HandlerSettings, "max_in_flight") if wanted is None else wanted)


def _protocol(service: Service, *, is_said: bool) -> Callable[[], object] | None:
    """Return what makes protocol objects; where no framing is said, what it makes may decide."""
    made = service.protocol
    if made is not None and service.text is not None:
        return TextFactory(made, service.text)
    return made if made is None or is_said else loader.known_or_made(made)


def _check_text(service: Service, text: str, framing: Framing) -> None:
    """See that there are frames which can be text.

    Raises:
        HandlerError: there are none.
    """
    said = f"{text}: text = {service.text!r} is for functions and for protocol classes with line_received"
    if service.coroutine is not None:
        raise HandlerError(f"{said}; a coroutine decodes what it reads, and encodes what it writes")
    if service.protocol is not None and isinstance(framing, Raw):
        raise HandlerError(f"{said} or frame_received; bytes as they come may end within a character")


def _goodbye(table: ServiceSettings, own: bytes | None) -> bytes:
    return table.goodbye.encode("utf-8", "surrogateescape") if table.goodbye is not None else own or b""


def _is_blocking(table: ServiceSettings, service: Service, text: str, *, wants_connection: bool) -> bool:
    wanted = service.blocking if table.blocking is None else table.blocking
    if not wanted:
        return False
    is_coroutine = service.coroutine is not None or is_async(service.function)
    if is_coroutine or service.protocol is not None:
        kind = "coroutine" if is_coroutine else "protocol class"
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


__all__ = ["of_service", "resolve"]
