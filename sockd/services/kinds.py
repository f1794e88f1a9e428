# SPDX-License-Identifier: MIT
"""The kinds of services: a closed set of frozen values, each of which says in one place all in which it differs.

Its family (sockd.services.families) is all that the daemon distinguishes.  sockd.settings.service defines which key of
[service.NAME] selects a kind, and which other keys apply.  A new kind is a class here, in the union `Kind`, and a
field there; for a new family the type checker names each place that has to handle it.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, assert_never, get_args

from sockd.lazy import lazily
from sockd.net.connection.codec import make_codec
from sockd.services.builtin import CODE, CoreService
from sockd.services.families import TableKind
from sockd.services.given_kinds import ExecKind, RelayKind, SocksKind, TcpmuxKind, WaitExecKind
from sockd.services.handlers.function import function_sink
from sockd.services.spec import ServiceSpec
from sockd.settings.builtin import BUILTINS
from sockd.settings.framing import resolve_framing
from sockd.settings.limits import decided
from sockd.values import dataclass
from sockd.wire.framing import Packet, Raw

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.connection.events import ConnectionEvents
    from sockd.net.loop import asyncio_loop
    from sockd.services.api import BatchFunction, Reply, SessionFunction
    from sockd.services.builtin import SpeakingService, http
    from sockd.services.builtin.http import Pages
    from sockd.services.exec import program
    from sockd.services.handlers import adapters, async_function, batch, blocking, coroutine, datagrams, sinks
    from sockd.services.handlers.datagrams import Answer, DatagramCodec
    from sockd.services.handlers.policy import FramePolicy
    from sockd.services.spec import SinkTools
    from sockd.settings.framing import FramingName
    from sockd.settings.service import ServiceSettings
    from sockd.wire.framing import Framing
else:
    http = lazily("sockd.services.builtin.http")
    program = lazily("sockd.services.exec.program")
    adapters = lazily("sockd.services.handlers.adapters")
    batch = lazily("sockd.services.handlers.batch")
    blocking = lazily("sockd.services.handlers.blocking")
    datagrams = lazily("sockd.services.handlers.datagrams")
    sinks = lazily("sockd.services.handlers.sinks")
    asyncio_loop = lazily("sockd.net.loop.asyncio_loop", only_with="asyncio")
    async_function = lazily("sockd.services.handlers.async_function", only_with="asyncio")
    coroutine = lazily("sockd.services.handlers.coroutine", only_with="asyncio")


# ---- connections that are rows of the table


@dataclass(frozen=True)
class FunctionKind(TableKind):
    """`f(frame)`, or `f(frame, connection)`: answers a frame."""

    function: Callable[..., Reply]
    wants_connection: bool = False
    policy: FramePolicy | None = None
    answers_datagrams = True

    @property
    def way(self) -> str:  # type: ignore[override]  # a constant of the other kinds
        """See ServiceKind."""
        return "function connection" if self.wants_connection else "function"

    @property
    def speaks(self) -> bool:
        """See ServiceKind."""
        return self.wants_connection or self.policy is not None

    def datagram(self, codec: DatagramCodec) -> Answer:
        """See ServiceKind."""
        return (
            datagrams.PeerFunction(self.function, codec)
            if self.wants_connection
            else datagrams.frame_answer(self.function, codec)
        )

    def merges(self, framing: Framing) -> bool:
        """See ServiceKind."""
        return not self.speaks and not isinstance(framing, Raw)

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """See ServiceKind."""
        if not self.speaks:
            return function_sink(spec.name, self.function, tools.codec, tools.connections)
        return sinks.function_handler(spec, self.function, tools, self.policy, wants_connection=self.wants_connection)


@dataclass(frozen=True)
class AsyncFunctionKind(TableKind):
    """`async def f(frame)`, or with the connection: answers a frame, `max_in_flight` of them at once."""

    function: Callable[..., Reply]
    wants_connection: bool
    max_in_flight: int
    speaks = True
    needs_asyncio = True
    answers_datagrams = True

    @property
    def way(self) -> str:  # type: ignore[override]  # a constant of the other kinds
        """See ServiceKind."""
        return "function connection" if self.wants_connection else "function"

    def datagram(self, codec: DatagramCodec) -> Answer:
        """See ServiceKind."""
        return datagrams.AsyncDatagrams(self.function, codec, wants_peer=self.wants_connection)

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """See ServiceKind."""
        assert isinstance(tools.loop, asyncio_loop.AsyncioLoop)
        return async_function.AsyncFunctionHandler(
            spec.name,
            self.function,
            tools,
            tools.loop,
            sinks.transport_class(spec),
            spec.limits.high_water,
            wants_connection=self.wants_connection,
            max_in_flight=self.max_in_flight,
        )


@dataclass(frozen=True)
class BatchKind(TableKind):
    """`f(frames)`: answers the frames of one connection that arrived together."""

    batch: BatchFunction
    way = "batch"
    answers_datagrams = True

    def datagram(self, codec: DatagramCodec) -> Answer:
        """See ServiceKind."""
        return datagrams.batch_answer(self.batch, codec)

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """See ServiceKind."""
        return batch.BatchHandler(spec.name, self.batch, tools.codec, tools.connections)


@dataclass(frozen=True)
class BlockingKind(TableKind):
    """A function of one argument, or a batch, that is called in threads."""

    called: FunctionKind | BatchKind
    needs_threads = True
    answers_datagrams = True

    @property
    def way(self) -> str:  # type: ignore[override]  # a constant of the other kinds
        """See ServiceKind."""
        return f"{self.called.way} blocking"

    def datagram(self, codec: DatagramCodec) -> Answer:
        """See ServiceKind."""
        return self.called.datagram(codec)

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """See ServiceKind."""
        make = partial(
            blocking.BlockingHandler, spec.name, codec=tools.codec, connections=tools.connections, pool=tools.pool
        )
        match self.called:
            case FunctionKind(function=function):
                return make(function=function, batch=None)
            case BatchKind(batch=batch):
                return make(function=None, batch=batch)
            case _:
                assert_never(self.called)


@dataclass(frozen=True)
class ProtocolKind(TableKind):
    """A class, or any callable, that makes one object a connection."""

    protocol: Callable[[], object]
    policy: FramePolicy | None = None
    way = "protocol"
    speaks = True

    @property
    def may_use_asyncio(self) -> bool:
        """See ServiceKind: no class is one of asyncio's where that was never imported."""
        return "asyncio" in sys.modules

    @property
    def answers_datagrams(self) -> bool:
        """See ServiceKind."""
        return adapters.wants_datagrams(self.protocol)

    @property
    def serves_streams(self) -> bool:
        """See ServiceKind."""
        return not isinstance(self.protocol, type) or bool(adapters.frame_method(self.protocol))

    def datagram(self, codec: DatagramCodec) -> Answer:
        """See ServiceKind."""
        return datagrams.ProtocolDatagrams(self.protocol) if self.answers_datagrams else super().datagram(codec)

    def core_framing(self, framing: Framing) -> Framing:
        """See ServiceKind: where each object tells what it takes, nothing is cut before that, but packets."""
        is_open = isinstance(self.protocol, adapters.ProtocolFactory) and not isinstance(framing, Packet)
        return Raw() if is_open else framing

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """See ServiceKind."""
        return sinks.protocol_handler(spec, self.protocol, tools, self.policy)


@dataclass(frozen=True)
class CoroutineKind(TableKind):
    """`async def session(reader, writer)`: one task a connection."""

    session: SessionFunction
    way = "coroutine"
    speaks = True
    serves_packets = False  # a StreamReader knows none
    is_queued = True
    needs_asyncio = True

    def core_framing(self, framing: Framing) -> Framing:
        """See ServiceKind: its reader cuts what it asks for."""
        return Raw()

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """See ServiceKind."""
        assert isinstance(tools.loop, asyncio_loop.AsyncioLoop)
        codec, limits = make_codec(spec.framing, tools.connections, wire=True), spec.limits
        times = (limits.high_water, limits.frame_timeout)
        return coroutine.CoroutineHandler(spec.name, self.session, codec, *times, tools.connections, tools.loop)


@dataclass(frozen=True)
class BuiltinKind(TableKind):
    """A service that comes with sockd, but for the pages."""

    code: CoreService | SpeakingService
    key = "builtin"
    is_small = True
    answers_datagrams = True

    @property
    def way(self) -> str:  # type: ignore[override]  # a constant of the other kinds
        """See ServiceKind."""
        return "core" if isinstance(self.code, CoreService) else "protocol"

    @property
    def core(self) -> int:  # type: ignore[override]  # likewise
        """See ServiceKind."""
        return self.code.number if isinstance(self.code, CoreService) else 0

    @property
    def is_measured(self) -> bool:  # type: ignore[override]  # likewise
        """See ServiceKind."""
        return not isinstance(self.code, CoreService)

    @property
    def speaks(self) -> bool:
        """See ServiceKind."""
        return not isinstance(self.code, CoreService)

    def datagram(self, codec: DatagramCodec) -> Answer:
        """See ServiceKind."""
        return self.code.answer

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """See ServiceKind."""
        if isinstance(self.code, CoreService):
            return function_sink(spec.name, self.code.answer, tools.codec, tools.connections)
        return sinks.protocol_handler(spec, self.code.protocol, tools)

    @classmethod
    def spec(cls, name: str, table: ServiceSettings) -> ServiceSpec:
        """See ServiceKind."""
        if table.what == "metrics":
            return MetricsKind.spec(name, table)
        what = next(one for one in CODE if one == table.what)
        return _framed(name, table, BUILTINS[what].framing, cls(CODE[what]))


@dataclass(frozen=True)
class MetricsKind(TableKind):
    """The pages about the daemon; the daemon provides `pages`."""

    pages: Pages = lambda _path: None
    key = "metrics"
    way = "protocol"
    speaks = True
    is_small = True
    is_pages = True
    is_in_one_process = True
    serves_packets = False

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """See ServiceKind."""
        return sinks.protocol_handler(spec, partial(http.HttpProtocol, self.pages), tools)

    @classmethod
    def spec(cls, name: str, table: ServiceSettings) -> ServiceSpec:
        """See ServiceKind."""
        return _framed(name, table, BUILTINS["metrics"].framing, cls())


Kind: TypeAlias = (
    FunctionKind | AsyncFunctionKind | BatchKind | ProtocolKind | CoroutineKind | BlockingKind | WaitExecKind | ExecKind
    | TcpmuxKind | RelayKind | SocksKind | BuiltinKind | MetricsKind
)  # fmt: skip
"""Every kind there is."""

KIND_BY_KEY: dict[str, type[Kind]] = {kind.key: kind for kind in get_args(Kind) if kind.key}
"""The kinds that a key of [service.NAME] names, of several the last one, which decides between them in spec();
`handler` is one of the others, as its code has it.
"""


# ---- parts


def _framed(name: str, table: ServiceSettings, framing: FramingName, kind: Kind) -> ServiceSpec:
    """Decide everything about a service that has no handler of its own to say so."""
    return ServiceSpec(
        name=name,
        framing=resolve_framing(table, None, framing),
        limits=decided(table, {}),
        kind=kind,
        goodbye=goodbye_payload(table, None),
    )


def goodbye_payload(table: ServiceSettings, own: bytes | None) -> bytes:
    """Return the payload of the last frame, as the table says, else as the handler's own Service does."""
    return table.goodbye.encode("utf-8", "surrogateescape") if table.goodbye is not None else own or b""


__all__ = [
    "KIND_BY_KEY",
    "AsyncFunctionKind",
    "BatchKind",
    "BlockingKind",
    "BuiltinKind",
    "CoroutineKind",
    "FunctionKind",
    "Kind",
    "MetricsKind",
    "ProtocolKind",
    "goodbye_payload",
]
