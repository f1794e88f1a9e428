# SPDX-License-Identifier: MIT
"""Listeners of the configuration that are not bound now: drained by an administrator, or optional and not possible yet.

What is optional is tried again, as is what was drained for a time that is over.  A try opens the sockets first, so that
nothing else happens while that fails; then the listeners are made beside those that serve, which go on (with workers,
in a new generation).
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

from sockd.daemon.listeners import CLOSED_SECONDS
from sockd.daemon.plan import check_opened
from sockd.errors import SockdError, SystemFault, TemporaryFault
from sockd.process.inherited_sockets import is_stored_name
from sockd.settings.address import MAX_PORT
from sockd.units import parse_whole
from sockd.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from sockd.daemon.listeners import ActiveListener, ListenerRegistry
    from sockd.daemon.overrides import Override
    from sockd.daemon.plan import ListenerPlan
    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.loop.loop import Timer
    from sockd.process.inherited_sockets import InheritedSockets, LeftOut

    Then = Callable[[SockdError | None], None]

logger = logging.getLogger("sockd.daemon")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Between two tries, doubled each time: an address that comes up late, as an interface's, is there within seconds."""


@dataclass(frozen=True, eq=False)
class AbsentListener:
    """A socket that is not open.

    Attributes:
        address: as it is written.
        endpoint: its text; that of the address, where the address could not be looked up.
        why: what prevents it; empty: it is drained.
        port: that it had; 0: that of the address.
    """

    address: Address
    plan: ListenerPlan
    endpoint: str
    why: str = ""
    port: int = 0

    @property
    def number(self) -> int:
        """Its number among listeners of its service with an equal address, which has port 0."""
        return self.plan.find_number(self.address)


class AbsentListeners:
    """All of them.

    Args:
        serving: what is bound.
        passed: opens sockets.
        can_open: tells whether this process could ever open an address.
        guarded: what code of handlers is called within.
        keep: has a manager keep the sockets that are served now, and close these.

    Attributes:
        is_under_way: some are being made, or waited for.
        is_busy: tells whether a reload is being made meanwhile.
        then: called whenever some were made, or could not be.
    """

    def __init__(
        self,
        serving: ListenerRegistry,
        passed: InheritedSockets,
        can_open: Callable[[Address], bool],
        *,
        guarded: Callable[[], AbstractContextManager[None]] = nullcontext,
        keep: Callable[[Sequence[ActiveListener]], None],
    ) -> None:
        self._serving = serving
        self._passed = passed
        self._can_open = can_open
        self._guarded = guarded
        self._keep = keep
        self._timer: Timer | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self.is_under_way = False
        self.is_busy: Callable[[], bool] = lambda: False
        self.then: Callable[[], None] = lambda: None
        serving.overrides.expired = self._expired
        serving.shut_down = self._lost

    # ---- noted

    def replace(self, plans: Iterable[ListenerPlan]) -> None:
        """Have these be absent that the last opening of the addresses of these plans has left out, and no others."""
        by_address = {id(address): plan for plan in plans for address in plan.addresses}  # port 0: several are equal
        found = [AbsentListener(one.address, by_address[id(one.address)], one.endpoint, one.why, _port(one))
                 for one in self._passed.left_out if id(one.address) in by_address]  # fmt: skip
        self._passed.left_out.clear()
        self._serving.absent[:] = found
        for one in found:
            if one.why:
                _report(one)
            else:  # the process before this one may not have closed it yet
                self._serving.lent_until = self._serving.tools.loop.clock() + CLOSED_SECONDS
        self._try_again_later(FIRST_PAUSE_SECONDS)

    def drained(self, served: ActiveListener) -> None:
        """Note one that an administrator takes out of service."""
        one = AbsentListener(served.address, served.plan, str(served), port=served.listening.endpoint.port)
        self._serving.absent.append(one)
        self._keep((served,))  # else the manager listens on, and the address is in use

    def port_before(self, address: Address, plan: ListenerPlan) -> int:
        """Return the port that a drained listener with this address, which has port 0, had; 0: there is none."""
        wanted = address, plan.settings.service, plan.find_number(address)
        drained = (one for one in self._serving.absent if not one.why and address.port == 0)
        return next((one.port for one in drained if (one.address, one.plan.settings.service, one.number) == wanted), 0)

    def can_bind(self, served: ActiveListener) -> bool:
        """Tell whether a listener could be bound again: not one that was passed, nor a path outside chroot(2)."""
        is_stored = is_stored_name(served.listening.passed, served.address)  # by the manager, which can let go of it
        return self._can_open(served.address) and (is_stored or not served.listening.passed)

    def _lost(self, served: ActiveListener) -> None:
        if served.listening.passed:
            return  # whoever passed it has ended it
        one = AbsentListener(served.address, served.plan, str(served), "shut down", served.listening.endpoint.port)
        self._serving.absent.append(one)
        self._try_again_later(FIRST_PAUSE_SECONDS)

    def _expired(self, row: Override) -> None:
        """Have a listener that was drained for a time be bound again, as soon as that is possible."""
        rows = self._serving.absent
        drained = [one for one in rows if not one.why and one.endpoint == row.subject]
        for one in drained:
            rows[rows.index(one)] = replace(one, why="its time is over")
        self._try_again_later(0)

    # ---- bound

    def undrain(self, row: Override, then: Then) -> None:
        """Bind a drained listener, and end its override; or call back with why not, and change nothing.

        While workers still have its socket it is tried again.
        """
        wanted = [one for one in self._serving.absent if not one.why and one.endpoint == row.subject]

        def done(error: SockdError | None) -> None:
            left = self._serving.lent_until - self._serving.tools.loop.clock()
            if error is not None and left > 0 and not self._serving.is_ending and row in self._serving.overrides.rows:
                self.is_under_way = True
                self._serving.tools.loop.call_later(left, lambda: self._bind(wanted, done))
                return
            if error is None:
                self._serving.overrides.clear(row.number)
            then(error)

        self._bind(wanted, done)

    def _try_again_later(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._wanted():
            self._pause = max(seconds, FIRST_PAUSE_SECONDS)
            self._timer = self._serving.tools.loop.call_later(seconds, self._try_again)

    def _wanted(self) -> list[AbsentListener]:
        return [one for one in self._serving.absent if one.why and self._can_open(one.address)]

    def _try_again(self) -> None:
        self._timer = None
        longer = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        if self.is_under_way or self.is_busy():
            self._try_again_later(FIRST_PAUSE_SECONDS)
        elif self._wanted():
            self._bind(self._wanted(), lambda _error: self._try_again_later(longer))

    def _bind(self, wanted: Sequence[AbsentListener], then: Then) -> None:
        """Open what can be opened of these, and serve it; `then` gets the error where that is nothing."""
        serving, undo = self._serving, ExitStack()

        def finish(error: SockdError | None) -> None:
            self.is_under_way = False
            then(error)
            self.then()

        if serving.is_ending:
            finish(TemporaryFault("the daemon is stopping"))
            return
        with undo:
            opened, errors = self._open(wanted, undo)
            if not opened:
                undo.close()
                finish(SystemFault("\n".join(map(str, errors)) or "its listener is no longer in the configuration"))
                return
            try:
                with self._guarded():
                    made = serving.prepare_more([(one.address, sock, one.plan) for one, sock in opened])
            except SockdError as error:
                undo.close()
                finish(error)
                return
            undo.callback(serving.discard, made)
            under_way = undo.pop_all()
        self.is_under_way = True

        def ready(error: SockdError | None) -> None:
            if error is not None:
                under_way.close()
                finish(error)
                return
            under_way.pop_all()
            self._start(made, [one for one, _ in opened])
            serving.when_started(lambda: finish(None))

        serving.when_ready(made, ready)

    def _open(
        self, wanted: Sequence[AbsentListener], undo: ExitStack
    ) -> tuple[list[tuple[AbsentListener, ServerSocket]], list[SockdError]]:
        opened: list[tuple[AbsentListener, ServerSocket]] = []
        errors: list[SockdError] = []
        serving = self._serving
        if any(one.address == served.address for one in wanted for served in serving.draining):
            serving.close_draining()
        for one in wanted:
            port = one.port if one.address.port == 0 else 0
            beside = [served.listening for served in serving.listeners if served.address is one.address]
            beside += [sock for other, sock in opened if other.address is one.address]
            try:
                strict, shares = replace(one.plan.settings, optional=False), one.plan.service.kind.shares_socket
                for sock in self._passed.open(
                    one.address, strict, blocks=shares, beside=beside, only=one.endpoint, port=port, number=one.number
                ):
                    undo.callback(sock.close)
                    check_opened(sock, one.address, one.plan)
                    opened.append((one, sock))
            except SockdError as error:
                errors.append(error)
        return opened, errors

    def _start(self, made: Sequence[ActiveListener], bound: Sequence[AbsentListener]) -> None:
        serving = self._serving
        sockets = {served.listening: served for served in serving.listeners}
        serving.start(made, {one: sockets[one.listening] for one in made if one.listening in sockets})
        serving.absent[:] = [one for one in serving.absent if one not in bound]
        for served in made:
            if served.listening not in sockets:
                served.log_start()
        self._keep(())


def _port(one: LeftOut) -> int:
    """Return the port that a drained listener had before an upgrade; 0: that of the address."""
    is_any = one.address.port == 0 and not one.address.path and not one.why
    return (parse_whole(one.endpoint.rpartition(":")[2], MAX_PORT) or 0) if is_any else 0


def _report(one: AbsentListener) -> None:
    event = {"address": one.endpoint, "service": one.plan.service.name, "error": one.why}
    logger.warning("optional address not bound, trying again", extra={"event": event})


__all__ = ["AbsentListener", "AbsentListeners"]
