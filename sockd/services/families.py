# SPDX-License-Identifier: MIT
"""What every kind of service says of itself, and the families of kinds.

Four families, which are all that the daemon tells apart (`match`, with `assert_never`):

    TableKind    its connections are rows of the table (csrc/mux.c).  Startup hooks run before the first byte; frames go
                 to its sink; a drain lets each finish its frame and says goodbye; an upgrade hands over those whose
                 sink gives them away, to a service of the same name and way; counted and shown by row
    ProgramKind  each connection is given to a program, one of its own or (tcpmux) the one that the client names, which
                 reads and writes by itself: counted as programs; a drain
                 waits for them, then TERM and KILL; after an upgrade the old process waits for its own
    WaitKind     the listening or datagram socket itself is given to a program, which accepts or receives until it
                 exits: one process watches it, counted as programs; a drain has a last one serve what waits in the
                 kernel; an upgrade hands over the socket with a descriptor of each running program (pidfd), so that
                 the new process starts none beside it; sockctl shows it as a listener with its programs
    ProxyKind    each connection becomes one side of a pair (csrc/relay.c): counted by the server that owns them; a
                 drain waits for them; after an upgrade the old process keeps them
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.services.handlers.function import function_sink

if TYPE_CHECKING:
    from sockd.net.connection.events import ConnectionEvents
    from sockd.process.program import Identity
    from sockd.services.exec.program import Program
    from sockd.services.handlers.datagrams import Answer, DatagramCodec
    from sockd.services.kinds import Kind
    from sockd.services.spec import ServiceSpec, SinkTools
    from sockd.settings.limits import Limits
    from sockd.settings.service import ServiceSettings
    from sockd.wire.framing import Framing


class ServiceKind:
    """What a kind says of itself, with what most of them say.

    Attributes:
        key: of [service.NAME], which names this kind; empty for what a handler turns out to be.
        way: its word for other processes (ServiceSpec.way), which a release does not change.
        speaks: its handler has the Connection of each peer: it can call start_tls(), lines come as they were sent.
        core: number of its service of the C core; 0: none.
        is_small: it comes with sockd, and its datagrams must not make a loop or an amplifier.
        is_pages: it tells of the daemon itself, and is answered however many connections others have.
        is_in_one_process: one process serves it, however many `workers` there are.
        shares_socket: a program has the listening or datagram socket itself, and expects it to block.
        serves_packets: it serves unixpacket (SOCK_SEQPACKET); where its connections are rows, each packet is a frame.
        is_measured: calls of Python are timed.
        is_queued: frames wait for whoever asks for them.
        needs_threads: it is called in [daemon] threads.
        needs_asyncio: it runs in asyncio's loop; it `may_use_asyncio` where it could ask for that.
        answers_datagrams: it serves udp and unixgram too; `instead` says what else can where it cannot.
        serves_streams: it serves tcp and unix.
    """

    key = ""
    way = ""
    core = 0
    is_small = False
    is_pages = False
    is_in_one_process = False
    shares_socket = False
    serves_packets = False
    is_measured = True
    is_queued = False
    needs_threads = False
    needs_asyncio = False
    instead = "a function or an asyncio.DatagramProtocol can"

    @property
    def speaks(self) -> bool:
        """See there."""
        return False

    @property
    def answers_datagrams(self) -> bool:
        """See there."""
        return False

    @property
    def serves_streams(self) -> bool:
        """See there."""
        return True

    @property
    def may_use_asyncio(self) -> bool:
        """See there."""
        return self.needs_asyncio

    def core_framing(self, framing: Framing) -> Framing:
        """Return how the C core cuts the stream of a service of this framing."""
        return framing

    def datagram(self, codec: DatagramCodec) -> Answer:
        """Return what answers a datagram, for a service whose frames are cut so."""
        raise AssertionError(f"{self.way} answers no datagrams: {codec}")

    def merges(self, framing: Framing) -> bool:
        """Tell whether frames of several connections may come at once."""
        return False

    def max_connections(self, limits: Limits) -> int | None:
        """Return how many connections may be served at once; None for no limit of the service."""
        return limits.max_connections

    def sink(self, spec: ServiceSpec, tools: SinkTools) -> ConnectionEvents:
        """Make the sink of its connections; a kind without rows has none."""
        return function_sink(spec.name, bytes, tools.codec, tools.connections)

    @classmethod
    def spec(cls, name: str, table: ServiceSettings) -> ServiceSpec:
        """Decide everything about a service whose table has this kind's key."""
        raise AssertionError(f"{cls.__name__} has no key; {name} is {table}")


class TableKind(ServiceKind):
    """Its connections are rows of the table."""

    serves_packets = True


class ExecutingKind(ServiceKind):
    """It executes a program; not a family, but what kinds of two of them have in common."""

    program: Program
    is_measured = False
    serves_packets = True

    def running_as(self, identity: Identity | None, login: tuple[str, ...]) -> Kind:
        """Return it with the account that its program runs as, and the variables of that account."""
        raise NotImplementedError


class ProgramKind(ServiceKind):
    """Each connection is passed to a program."""

    is_measured = False


class WaitKind(ExecutingKind):
    """The listening or datagram socket itself is passed to a program."""

    is_in_one_process = True
    shares_socket = True


class ProxyKind(ServiceKind):
    """Each connection becomes one side of a pair."""


__all__ = ["ExecutingKind", "ProgramKind", "ProxyKind", "ServiceKind", "TableKind", "WaitKind"]
