# SPDX-License-Identifier: MIT
"""From a name in the configuration to a service as it will run.

A name is a [service] table, a built-in, or `module:attribute`.  A limit is what
the table says, else what the handler's own Service says, else the default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sockd.errors import HandlerError, under_key
from sockd.lazy import lazily
from sockd.services.given_kinds import TcpmuxKind
from sockd.services.kinds import (
    KIND_BY_KEY,
    AsyncFunctionKind,
    BatchKind,
    BlockingKind,
    CoroutineKind,
    FunctionKind,
    ProtocolKind,
    goodbye_payload,
)
from sockd.services.spec import ServiceSpec
from sockd.settings.builtin import BUILTINS
from sockd.settings.field import setting_default
from sockd.settings.framing import resolve_framing
from sockd.settings.limits import decided
from sockd.settings.service import HandlerSettings, ServiceSettings
from sockd.values import replace
from sockd.wire.framing import Line, Raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sockd.services.api import AnyService
    from sockd.services.kinds import Kind
    from sockd.wire.framing import Framing

    HandlerKind = FunctionKind | AsyncFunctionKind | BatchKind | ProtocolKind | CoroutineKind
    from sockd.services import api, loader
    from sockd.services.handlers import policy as policies
    from sockd.services.handlers import text as texts
    from sockd.services.handlers.policy import FramePolicy
else:
    api = lazily("sockd.services.api")
    loader = lazily("sockd.services.loader")
    policies = lazily("sockd.services.handlers.policy")
    texts = lazily("sockd.services.handlers.text")


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
    (key,) = table.kinds
    if table.tcpmux is not None:
        spec = KIND_BY_KEY[key].spec(name, table)
        return replace(spec, kind=TcpmuxKind(tuple((one, resolve(one.service, tables)) for one in table.tcpmux)))
    if key in KIND_BY_KEY:
        return KIND_BY_KEY[key].spec(name, table)
    with under_key("service", name, "handler"):
        return _resolve_handler(name, table, loader.find(cast("str", table.handler)))


def resolve_service(name: str, service: AnyService) -> ServiceSpec:
    """Decide everything about a Service that no configuration speaks of."""
    return _resolve_handler(name, ServiceSettings(), service)


def _resolve_handler(name: str, table: ServiceSettings, service: AnyService) -> ServiceSpec:
    text = table.handler or name
    raw = service.protocol is not None and loader.wants_raw_data(service.protocol)
    framing = resolve_framing(table, service.framing, "raw" if raw else "line")
    is_said = table.framing is not None or service.framing is not None
    said = _resolve_kind(service, framing, text, _in_flight(table, service, text), is_said=is_said)
    is_blocking = service.blocking if table.blocking is None else table.blocking
    return ServiceSpec(
        name=name,
        framing=framing,
        limits=decided(table, service.limits),
        kind=_blocking(said, text) if is_blocking else _with_policy(said, _policy(table, service), framing, text),
        startup=tuple(service.at_startup),
        shutdown=tuple(service.at_shutdown),
        snapshot=service.snapshot_hook,
        restore=service.restore_hook,
        goodbye=goodbye_payload(table, service.goodbye),
        datagram_lines=bool(service.datagram_lines if table.datagram_lines is None else table.datagram_lines),
    )


def _resolve_kind(
    service: AnyService, framing: Framing, text: str, max_in_flight: int, *, is_said: bool
) -> HandlerKind:
    """Return the one handler of a Service; this is the only place that decides which.

    Args:
        max_in_flight: of an async function.
        is_said: somebody has said the framing; else what makes protocol objects may decide.
    """
    if service.function is not None:
        wants_connection = loader.wants_connection(service.function, text)
        if api.is_async(service.function):
            wrap = service.function if service.text is None else texts.text_coroutine(service.function, service.text)
            return AsyncFunctionKind(wrap, wants_connection, max_in_flight)
        function = service.function if service.text is None else texts.text_function(service.function, service.text)
        return FunctionKind(function, wants_connection)
    if service.batch is not None:
        return BatchKind(service.batch if service.text is None else texts.text_batch(service.batch, service.text))
    if service.protocol is not None:
        if service.text is None:
            return ProtocolKind(service.protocol if is_said else loader.known_or_made(service.protocol))
        if isinstance(framing, Raw):
            reason = "frame_received; bytes as they come may end within a character"
            raise HandlerError(f"{text}: {_text_rule(service)} or {reason}")
        return ProtocolKind(texts.TextFactory(service.protocol, service.text))
    if not isinstance(framing, Line | Raw):
        raise HandlerError(f"{text}: a coroutine reads lines or bytes, not frames of {type(framing).__name__}")
    if service.text is not None:
        reason = "a coroutine decodes its input, and encodes its output, itself"
        raise HandlerError(f"{text}: {_text_rule(service)}; {reason}")
    assert service.coroutine is not None  # for a Service is complete (loader.as_service)
    return CoroutineKind(service.coroutine)


def _in_flight(table: ServiceSettings, service: AnyService, text: str) -> int:
    wanted = service.max_in_flight if table.max_in_flight is None else table.max_in_flight
    if (wanted or 1) > 1 and not api.is_async(service.function):
        raise HandlerError(f"{text}: max_in_flight is for async def f(line)")
    return int(setting_default(HandlerSettings, "max_in_flight") if wanted is None else wanted)


def _policy(table: ServiceSettings, service: AnyService) -> FramePolicy:
    too_long, unfinished = table.too_long or service.too_long, table.unfinished or service.unfinished
    return policies.FramePolicy(too_long or "close", unfinished or "drop")


def _with_policy(kind: HandlerKind, policy: FramePolicy, framing: Framing, text: str) -> Kind:
    """Return a kind that has a policy about frames, where that is not the common one."""
    if policy == policies.FramePolicy():
        return kind
    if policies.frame_terminator(framing) is None:
        raise HandlerError(
            f"{text}: too_long and unfinished are for framings with an end, not {type(framing).__name__}"
        )
    if isinstance(kind, FunctionKind | ProtocolKind):
        return replace(kind, policy=policy)
    raise HandlerError(f"{text}: too_long and unfinished are for functions and protocol classes")


def _text_rule(service: AnyService) -> str:
    return f"text = {service.text!r} is for functions and for protocol classes with line_received"


def _blocking(kind: HandlerKind, text: str) -> Kind:
    match kind:
        case FunctionKind(wants_connection=True):
            reason = "a blocking function gets only the frame; connections belong to the event loop's thread"
        case FunctionKind() | BatchKind():
            return BlockingKind(kind)
        case ProtocolKind():
            reason = "blocking = true is for functions; a protocol class is called in the loop"
        case CoroutineKind() | AsyncFunctionKind():
            reason = "blocking = true is for functions; a coroutine is called in the loop"
    raise HandlerError(f"{text}: {reason}")


__all__ = ["resolve", "resolve_service"]
