# SPDX-License-Identifier: MIT
"""One client of a SOCKS server, from its first byte to its last.

Negotiation, one request, and then the client's data belongs to a pump or an association.  Every phase has a deadline.
While the request is carried out, a client that is gone is noticed (sockd.net.connection.peer_gone), and whatever it
has sent ahead, its end of file included, stays in its socket until it is wanted.
"""

from __future__ import annotations

import logging
import selectors
import socket
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection.peer_gone import PeerWatch, is_gone
from sockd.net.loop.deadline import Deadline
from sockd.net.loop.shares import ip_source_key
from sockd.net.relay.pump import RelayPump
from sockd.net.relay.relay_table import HandshakeStage, RelayTable
from sockd.services.socks.bind import Bind
from sockd.services.socks.client_state import CLIENT, ClientState
from sockd.services.socks.egress import Refusal, make_refusal
from sockd.services.socks.login import WRONG_SECONDS, LoginCheck
from sockd.services.socks.report import ClientReport, word
from sockd.services.socks.rules import AccessRequest, parse_ip
from sockd.services.socks.udp_associate import Association
from sockd.wire.close_reason import CloseReason
from sockd.wire.socks_address import Reply, SocksError, make_reply
from sockd.wire.socks_server import Greeting, Login, Method, Negotiation, SocksCommand, SocksRequest, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop.loop import Timer
    from sockd.net.relay.relay_table import FallbackClient
    from sockd.services.socks.egress import Cancellable
    from sockd.services.socks.rules import IPAddress
    from sockd.services.socks.server import SocksService
    from sockd.services.socks.users import Users
    from sockd.wire.socks_server import Event

logger = logging.getLogger("sockd.socks")
T = TypeVar("T")

RECEIVE_BYTES = 4096
"""More than all messages of a negotiation together."""
FAREWELL_SECONDS = 2.0
"""Time for the client to read the last reply; data is discarded, for a reset would destroy the reply (FAQ II.5)."""


class SocksSession:
    """Serves one client.

    Args:
        server: of the client.
        sock: connected; owned from now on.
        peer: the client's address.
        done: called once, when it is served, after start().
    """

    _timer: Deadline | Timer  # from start() on

    def __init__(
        self, server: SocksService, sock: socket.socket, peer: SocketAddress, done: Callable[[], None]
    ) -> None:
        self._server = server
        self._loop = server.gate.loop
        self._socket = sock
        self._done = done
        self._state = ClientState.NEGOTIATING
        self._negotiation = Negotiation()
        self._source = parse_ip(peer.host) if peer.host else None
        self._user: str | None = None
        self._under_way: Cancellable | None = None
        self._association: Association | None = None
        self._pump: RelayPump | None = None
        self._lookout: PeerWatch | None = None
        self.began = self._began_request = self._loop.clock()
        self.report = ClientReport(server.name, peer)

    def _go(self, state: ClientState) -> None:
        self._state = CLIENT.step(self._state, state)

    def start(self, returned: FallbackClient | None = None) -> None:
        """Hear the client.

        Args:
            returned: the state of the fast path, which gives the client up.
        """
        if returned is not None:
            self.began = returned.began
        timeout = float(self._server.settings.negotiation_timeout)
        late = partial(self._late, timeout)
        self._timer = Deadline(self._loop, timeout, late, self.abort, began=self.began)
        if self._watch(self._readable) and returned is not None:
            self._resume(returned)

    def _watch(self, callback: Callable[[], None]) -> bool:
        """Call back when the client has sent something; False: it cannot be watched, and has ended."""
        self._stop_reading()
        try:
            self._loop.watch_fd(self._socket.fileno(), selectors.EVENT_READ, self._guarded(callback))
        except OSError as error:  # epoll_ctl(2): ENOMEM, ENOSPC
            self._end(CloseReason.LIMIT, f"cannot watch the connection: {error.strerror}", level=logging.WARNING)
            return False
        return True

    def _guarded(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._loop.guarded(callback, self.abort)

    def _completion(self, step: Callable[[T], None]) -> Callable[[T], None]:
        """Return what is called once with what was under way for the client, and guarded."""

        def complete(answer: T) -> None:
            self._under_way = None
            self._guarded(partial(step, answer))()

        return complete

    def _stop_reading(self) -> None:
        if self._lookout is not None:
            self._lookout.cancel()
            self._lookout = None
        self._loop.watch_fd(self._socket.fileno(), 0, self._readable)

    def _watch_only(self) -> None:
        """Read nothing of the client for now, and notice that it is gone."""
        self._stop_reading()
        self._lookout = PeerWatch(self._loop, self._socket, self._guarded(self._gone))

    def _gone(self) -> None:
        self._end(CloseReason.RESET, "client left while it waited")

    def _late(self, timeout: float) -> None:
        due = self._negotiation.state
        self._end(CloseReason.FRAME_TIMEOUT, f"no {due.value} within {timeout:g} s", level=logging.WARNING)

    def _resume(self, returned: FallbackClient) -> None:
        if returned.stage is not HandshakeStage.NEW:
            self._negotiation.skip_greeting()
        if returned.stage is HandshakeStage.CONNECTING:
            request = self._negotiation.feed(returned.data)
            assert isinstance(request, SocksRequest)  # the relay has read it
            self.report.request = request
            if returned.error:
                self._fail(make_refusal([returned.error]))
            else:
                self._gone()
        elif returned.error:
            self._end(CloseReason.RESET)
        elif returned.data:
            self._feed(returned.data)

    # ---- negotiation

    def _receive(self) -> bytes | None:
        """Return what has come; None for nothing, or when it was the end."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            self._end(CloseReason.RESET)
            return None
        if not data:
            at_once = self._negotiation.state is State.VERSION or self._state is ClientState.ASSOCIATED
            self._end(CloseReason.EOF if at_once else CloseReason.TRUNCATED)
        return data or None

    def _readable(self) -> None:
        if self._state is ClientState.ASSOCIATED:
            self._receive()  # it has nothing to say any more; its end is the association's
        elif self._state is not ClientState.NEGOTIATING:
            self._peek()
        elif (data := self._receive()) is not None:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            event = self._negotiation.feed(data)
        except SocksError as error:
            answer = b"" if error.reply is None else self._negotiation.reply(error.reply)
            self._refuse(answer, CloseReason.MALFORMED, str(error))
            return
        if event is not None:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Greeting):
            self._choose(event)
        elif isinstance(event, Login):
            if (users := self._server.users) is not None:  # else the method was not chosen
                self._log_in(event, users)
        else:
            self._serve(event)

    def _choose(self, greeting: Greeting) -> None:
        method = Method.NONE if self._server.users is None else Method.PASSWORD
        if method in greeting.methods:
            self._send(self._negotiation.choose(method))
            if self._negotiation.has_rest:
                self._feed(b"")
            return
        offered = ", ".join(f"0x{one:02x}" for one in greeting.methods) or "none"
        why = f"methods offered: {offered}; wanted: 0x{method:02x}"
        self._refuse(self._negotiation.choose(Method.NO_ACCEPTABLE), CloseReason.REFUSED, why)

    def _log_in(self, login: Login, users: Users) -> None:
        self.report.user = login.user.decode(errors="replace")
        check = LoginCheck(users, self._server.hashers, ip_source_key(self._source))
        if check.is_known(login):
            self._logged_in(login, is_right=True)
            return
        if is_gone(self._socket):
            self._gone()
            return
        self._go(ClientState.CHECKING)
        self._watch_only()  # whatever comes waits
        deadline = float(self._server.settings.negotiation_timeout)
        self._under_way = check.ask(login, self._completion(partial(self._checked, login)), deadline)

    def _checked(self, login: Login, answer: bool | BaseException) -> None:
        if answer is True:
            self._go(ClientState.NEGOTIATING)
            self._logged_in(login, is_right=True)
        elif answer is False:
            self._timer.cancel()
            complete = self._guarded(partial(self._logged_in, login, is_right=False))
            self._timer = self._loop.call_later(WRONG_SECONDS, complete)
        else:  # no verdict, so that none is told: RFC 1929 knows right and wrong alone
            self._end(CloseReason.LIMIT, f"the password was not checked: {answer}", level=logging.WARNING)

    def _logged_in(self, login: Login, *, is_right: bool) -> None:
        answer = self._negotiation.logged_in(well=is_right)
        if not is_right:
            self._refuse(answer, CloseReason.REFUSED, "wrong user or password")
            return
        self._user = login.user.decode(errors="surrogateescape")
        self._send(answer)
        if self._watch(self._readable):
            self._feed(b"")

    # ---- the request

    def _serve(self, request: SocksRequest) -> None:
        self._timer.cancel()
        self.report.request = request
        self._began_request = self._loop.clock()
        settings = self._server.settings
        if self._server.users is not None and self._user is None:
            self._fail(Refusal(Reply.NOT_ALLOWED, "SOCKS 4 has no login"))
        elif request.command is SocksCommand.CONNECT:
            self._find(request, partial(self._connect, request))
        elif request.command is SocksCommand.BIND and settings.bind:
            if request.destination.is_name or not parse_ip(request.destination.host).is_unspecified:
                self._find(request, self._bind)
            else:
                self._bind([])
        elif request.command is SocksCommand.UDP_ASSOCIATE and settings.udp and self._source is not None:
            self._associate(request, self._source)
        else:
            self._fail(Refusal(Reply.COMMAND_NOT_SUPPORTED, f"{word(request.command)} is not served here"))

    def _find(self, request: SocksRequest, then: Callable[[list[IPAddress]], None]) -> None:
        if request.destination.is_name and is_gone(self._socket):
            self._gone()
            return

        def found(answer: list[IPAddress] | Refusal) -> None:
            if isinstance(answer, Refusal):
                self._fail(answer)
            elif is_gone(self._socket):
                self._gone()
            else:
                then(answer)

        self._go(ClientState.FINDING)
        complete = self._completion(found)
        under_way = self._server.gate.find(request.destination, self._source, self._user, complete)
        if under_way is not None:
            self._under_way = under_way

    def _peek(self) -> None:
        """Leave what the client sends ahead where it is, also its end of file: it has half-closed and waits."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self._gone()
            return
        self._watch_only()

    def _connect(self, request: SocksRequest, addresses: list[IPAddress]) -> None:
        self._go(ClientState.CONNECTING)

        def connected(answer: socket.socket | Refusal) -> None:
            if isinstance(answer, Refusal):
                self._fail(answer)
                return
            host, local_port = answer.getsockname()[:2]
            self.report.reached = dial.winner.sockaddr if dial.winner else None
            self._relay(answer, host, local_port)

        port, complete = request.destination.port, self._completion(connected)
        dial = self._server.gate.connect(addresses, port, complete, since=self._began_request)
        self._under_way = dial

    def _bind(self, wanted: list[IPAddress]) -> None:
        self._go(ClientState.BINDING)
        asked = AccessRequest(self._source, self._user, None)

        def accepted(answer: tuple[socket.socket, IPAddress, int] | Refusal) -> None:
            if isinstance(answer, Refusal):
                self._fail(answer)
                return
            sock, address, port = answer
            self.report.reached = str(address), port
            self._relay(sock, str(address), port)

        local = SocketAddress.from_sockaddr(self._socket.getsockname())
        if not local.host and not wanted:
            self._fail(Refusal(Reply.COMMAND_NOT_SUPPORTED, "no address to listen on"))
            return
        ours = parse_ip(local.host) if local.host else wanted[0]
        try:
            bind = Bind(self._server.gate, asked, wanted, ours, self._completion(accepted))
        except OSError as error:
            self._fail(Refusal(make_reply([error.errno or 0]), str(error)))
            return
        self._under_way = bind
        self._send(self._negotiation.reply(Reply.SUCCEEDED, *bind.name))

    def _associate(self, request: SocksRequest, client: IPAddress) -> None:
        local = SocketAddress.from_sockaddr(self._socket.getsockname())
        if not local.host:
            self._fail(Refusal(Reply.COMMAND_NOT_SUPPORTED, "no address to listen on"))
            return
        try:
            association = Association(self._server.gate, client, request.destination, local, self._user)
        except OSError as error:
            self._fail(Refusal(make_reply([error.errno or 0]), str(error)))
            return
        self._go(ClientState.ASSOCIATED)
        self._association = self._under_way = association
        if self._watch(self._readable):
            self._send(self._negotiation.reply(Reply.SUCCEEDED, *association.name))

    def _relay(self, other: socket.socket, host: str, port: int) -> None:
        """Reply, then forward data; an unsent rest of the reply goes before the target's first byte."""
        try:
            self._loop.instance(RelayTable)
        except OSError as error:  # ENOSYS: there is no epoll; EMFILE, ENOMEM
            other.close()
            self._fail(Refusal(Reply.GENERAL_FAILURE, f"cannot forward data: {error.strerror}"))
            return
        self._go(ClientState.RELAYING)
        self._stop_reading()
        reply = self._negotiation.reply(Reply.SUCCEEDED, host, port)
        rest = reply[self._send(reply) :]
        self._pump = RelayPump(
            self._loop,
            self._socket,
            other,
            leftovers=(self._negotiation.pop_rest(), rest),
            idle_timeout=float(self._server.settings.idle_timeout),
            half_close_timeout=float(self._server.settings.half_close_timeout),
            on_end=self._end,
        )

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes received from the client, and sent to it."""
        if self._association is not None:
            return self._association.sent, self._association.received
        return (0, 0) if self._pump is None else self._pump.moved

    # ---- answers

    def _send(self, data: bytes) -> int:
        """Send a few bytes, which an unused send buffer always takes; return how many it took."""
        try:
            return self._socket.send(data)
        except OSError:  # full, which it cannot be before it has taken a reply; or gone, which reading will tell
            return 0

    def _fail(self, refusal: Refusal) -> None:
        self.report.reply = word(refusal.reply)
        is_denied = refusal.reply in (Reply.NOT_ALLOWED, Reply.COMMAND_NOT_SUPPORTED)
        reason = CloseReason.REFUSED if is_denied else CloseReason.UNREACHABLE
        self._refuse(self._negotiation.reply(refusal.reply), reason, refusal.why)

    def _refuse(self, answer: bytes, reason: CloseReason, why: str) -> None:
        """Say so, send FIN, and wait a little for the client's."""
        self._go(ClientState.REFUSED)
        self._timer.cancel()
        if answer:
            self._send(answer)
        end = partial(self._end, reason, why, level=logging.WARNING)
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            end()
            return
        self._timer = self._loop.call_later(FAREWELL_SECONDS, self._guarded(end))
        self._watch(partial(self._discard, end))

    def _discard(self, end: Callable[[], None]) -> None:
        try:
            gone = not self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            gone = True
        if gone:
            end()

    # ---- the end

    def abort(self) -> None:
        """End at once."""
        if self._pump is not None:
            self._pump.abort()
        else:
            self._end(CloseReason.SHUTDOWN)

    def _end(self, reason: CloseReason, why: str = "", *, level: int = logging.INFO) -> None:
        if self._state is ClientState.ENDED:
            return
        self._go(ClientState.ENDED)
        self._timer.cancel()
        if self._under_way is not None:
            self._under_way.cancel()
        if self._pump is None:
            self._stop_reading()
            self._socket.close()
        if self._association is not None:
            self.report.dropped = self._association.dropped
            why = why or self._association.why
        moved = self.moved if self._association is not None or self._pump is not None else None
        if logger.isEnabledFor(level):
            event = self.report.at_end(reason, why, moved, self._loop.clock() - self.began)
            logger.log(level, "closed", extra={"event": event})
        self._server.ended(self, reason)
        self._done()


__all__ = ["SocksSession"]
