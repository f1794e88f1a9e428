# SPDX-License-Identifier: MIT
"""The listener registry: listeners, their services, and what remains of those that a reload replaced.

A service with the settings of one configuration is a `ServiceInstance`.  Its connections keep it until the last of
them has closed; then its group number is free, and its shutdown hooks are called.  A listener that stays keeps its
socket: the new one accepts from it from then on, and continues the counts of the old one.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter
from typing import TYPE_CHECKING

from sockd.daemon.instances import ActiveListener, Runtime, ServiceInstance, TimedEvents, framed_goodbye
from sockd.daemon.listener_makers import ListenerMakers
from sockd.daemon.metrics import Histogram
from sockd.daemon.override_effects import apply_overrides
from sockd.daemon.overrides import Overrides
from sockd.errors import HandlerError, SystemFault
from sockd.lazy import lazily
from sockd.net.connection.info import Totals
from sockd.net.listen.overload import Quota
from sockd.net.listen.syn_filter import HANDSHAKE_SECONDS
from sockd.net.loop.turns import TurnWatch
from sockd.services import hooks, module_state
from sockd.services.handlers import group_options, make_sink
from sockd.services.kinds import MetricsKind
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sockd.daemon.absent import AbsentListener
    from sockd.daemon.overrides import Override
    from sockd.daemon.plan import ListenerPlan
    from sockd.errors import SockdError
    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.listen.listener import ListenerCounts
    from sockd.services.builtin.http import Pages
    from sockd.services.handlers import trace
    from sockd.services.spec import ServiceSpec
else:
    trace = lazily("sockd.services.handlers.trace")

logger = logging.getLogger("sockd.daemon")

CLOSED_SECONDS = HANDSHAKE_SECONDS + 0.5
"""After which all other processes have closed a drained listener, unless one of them hangs."""
MEASURED_SHARE = 16
"""One in so many handler calls is measured, for services with a handler per connection."""


class ListenerRegistry:
    """Every listener of the process, and every service that has connections.

    Args:
        tools: see there.

    Attributes:
        pages: of services that tell of the daemon itself; none before it is there.
        handlers: how long the handlers of each service take, measured from when on numbers are served somewhere.
        turns: how long the turns of the loop take, likewise.
        listeners: that accept or receive.
        draining: that were taken out and are being emptied, with what is done once they are closed.
        absent: listeners of the configuration that are not bound now.
        shut_down: called with one whose socket another process has shut down.
        lent_until: when other processes have closed what was drained last, by the clock of the loop.
        is_ending: nothing is to be bound any more.
    """

    def __init__(self, tools: Runtime) -> None:
        self.tools = tools
        self.pages: Pages = lambda _path: None
        self.handlers: dict[str, Histogram] = {}
        self.turns = Histogram()
        self._is_measuring = False
        self.listeners: list[ActiveListener] = []
        self.draining: dict[ActiveListener, Callable[[], None]] = {}
        self.absent: list[AbsentListener] = []
        self._former: list[ActiveListener] = []
        self._quotas: dict[str, Quota] = {}
        self._past: dict[str, Totals] = {}
        self._refused: dict[str, Counter[str]] = {}
        self._watch: TurnWatch | None = None
        self.makers = ListenerMakers(tools, self._died)
        self.overrides = Overrides(tools.loop, self.apply_overrides)
        tools.network_overrides.report = self.overrides.deny_source
        self.shut_down: Callable[[ActiveListener], None] = lambda _served: None
        self.lent_until = 0.0
        self.is_ending = False

    # ---- made, and taken into service

    def begin(self, opened: Iterable[tuple[Address, ServerSocket, ListenerPlan]]) -> list[ActiveListener]:
        """Serve on these sockets, at a start; raises as prepare()."""
        made = self.prepare((address, listening, plan, None) for address, listening, plan in opened)
        self.start(made)
        return made

    def prepare(
        self, wanted: Iterable[tuple[Address, ServerSocket, ListenerPlan, ActiveListener | None]]
    ) -> list[ActiveListener]:
        """Make a listener for each socket; nothing is accepted yet, and the existing ones continue.

        Args:
            wanted: for each its address as written, the socket, its service, and the listener that serves it now.

        Raises:
            SystemFault: more groups of connections than possible; HandlerError: a startup or another hook failed.
        """
        made: list[ActiveListener] = []
        runs: dict[int, ServiceInstance] = {}
        wanted = list(wanted)
        if any(plan.service.kind.is_pages for _, _, plan, _ in wanted):
            self.measure()
        try:
            for address, listening, plan, former in wanted:
                if id(plan.service) not in runs:
                    runs[id(plan.service)] = self._run(plan.service)
                made.append(self._make(address, listening, plan, runs[id(plan.service)], former))
            for run in runs.values():
                hooks.start([run.spec], run.hooks, self.tools.loop)
            module_state.restore([run.spec for run in runs.values()], self.module_states())
        except BaseException as error:
            for run in runs.values():
                self._forget(run)
            self._release_unused()
            if isinstance(error, MemoryError):
                raise SystemFault(str(error)) from None
            raise
        return made

    def prepare_more(self, opened: Sequence[tuple[Address, ServerSocket, ListenerPlan]]) -> list[ActiveListener]:
        """Make listeners beside those that serve; one whose service has connections joins it; raises as prepare()."""
        joined, others = [], []
        for address, listening, plan in opened:
            run = next((one.run for one in self.every() if one.plan.service is plan.service), None)
            if run is None:
                others.append((address, listening, plan, None))
            else:
                joined.append(self._make(address, listening, plan, run, None))
        return [*joined, *self.prepare(others)]

    def module_states(self) -> dict[str, bytes]:
        """Return the state of the modules that serve, for the code that replaces them (sockd.services.module_state)."""
        return module_state.snapshots((one.run.stream or one.run).spec for one in self.listeners)

    def when_ready(self, made: Sequence[ActiveListener], then: Callable[[SockdError | None], None]) -> None:
        """Call back when the result of prepare() can serve, or with its error: here, at once."""
        then(None)

    def give_up(self, error: SockdError) -> None:
        """Cancel what prepare() still waits for: here, nothing."""

    def discard(self, made: Sequence[ActiveListener]) -> None:
        """Undo prepare()."""
        serving = {id(served.run.hooks) for served in self.every()}
        for run in {id(served.run.hooks): served.run for served in made}.values():
            if id(run.hooks) not in serving:
                self._forget(run)
        self._release_unused()

    def measure(self) -> None:
        """Measure handlers and turns from now on: a metrics service is served."""
        self._is_measuring = True
        self.tools.loop.observe = self.turns.observe

    def _run(self, spec: ServiceSpec) -> ServiceInstance:
        tools = self.tools
        quota = self._quotas.setdefault(spec.name, Quota(spec.max_connections))
        if spec.kind.is_pages:
            spec = replace(spec, kind=MetricsKind(self.pages))
        if tools.trace:
            spec = trace.traced(spec)
        if spec.kind.needs_asyncio and not tools.loop.serves_coroutines:
            text = "coroutines need a restart, because there was no coroutine service at the start"
            raise HandlerError(text, key=("service", spec.name))
        sink = make_sink(spec, tools.connections, tools.loop, tools.pool)
        if self._is_measuring and spec.kind.is_measured:
            every = 1 if group_options(spec).merge else MEASURED_SHARE
            sink = TimedEvents(sink, self.handlers.setdefault(spec.name, Histogram()), every)
        refused = self._refused.setdefault(spec.name, Counter())
        return ServiceInstance(spec, sink, quota, framed_goodbye(spec, tools.connections), refused=refused)

    def _make(
        self,
        address: Address,
        listening: ServerSocket,
        plan: ListenerPlan,
        run: ServiceInstance,
        former: ActiveListener | None,
    ) -> ActiveListener:
        run = run.on(listening, self._run)
        renew = former.renew if former else self.makers.first(listening, plan.service)
        return ActiveListener(address, listening, plan, run, *renew(listening, plan, run))

    def start(
        self, made: Sequence[ActiveListener], replaced: dict[ActiveListener, ActiveListener] | None = None
    ) -> None:
        """Switch to these from now on.

        Args:
            made: of prepare().
            replaced: from a new listener to the one that it replaces, usually on the same socket.
        """
        for served in made:
            served.run.quota.limit = served.run.spec.max_connections
            former = (replaced or {}).get(served)
            if former is not None:
                self._replace(former, served)
            else:
                self.listeners.append(served)
            served.listener.start()

    def when_started(self, then: Callable[[], None]) -> None:
        """Call back when all processes have switched: here, at once."""
        then()

    def _replace(self, former: ActiveListener, served: ActiveListener) -> None:
        if served.listening is not former.listening:
            former.listener.accept_rest()  # its path has gone, so nobody else will come
        former.listener.detach()
        if served.listening is not former.listening:
            former.listening.close()
        served.renew_options(former.plan.settings)
        self.listeners[self.listeners.index(former)] = served
        self._retire(former)

    def _died(self, listening: ServerSocket) -> None:
        """Remove a listener whose socket another process has shut down; its connections stay."""
        for served in [one for one in self.listeners if one.listening is listening]:
            self.listeners.remove(served)
            self._retire(served)
            self.shut_down(served)

    def apply_overrides(self, rows: Sequence[Override]) -> None:
        """Have these changes hold in this process, and no others."""
        apply_overrides(rows, self.tools, self.listeners)

    # ---- taken out of service

    def remove(self, served: ActiveListener, then: Callable[[], None]) -> None:
        """Drain a listener: refuse new clients, accept those already connecting, then close it.

        Args:
            then: called once it is closed.
        """
        self.listeners.remove(served)
        self.draining[served] = then
        event = {"address": str(served), "service": served.plan.service.name}
        logger.info("no longer listening", extra={"event": event})
        seconds = served.listener.refuse_new_clients()
        if seconds > 0:
            self.tools.loop.call_later(seconds, lambda: self._close(served))
        else:
            self._close(served)

    def _close(self, served: ActiveListener) -> None:
        then = self.draining.pop(served, None)
        if then is None:
            return
        served.listener.close()
        self._retire(served)
        then()

    def close_draining(self) -> None:
        """Close the draining listeners at once: their address is wanted, or the daemon stops."""
        for served in list(self.draining):
            self._close(served)

    def close_listeners(self) -> None:
        """Close every listener, once its queue is empty."""
        self.absent.clear()
        self.close_draining()
        for served in self.listeners:
            served.listener.close()

    def hand_over(self, handed: Sequence[ActiveListener]) -> None:
        """Stop listening, because another process does; the connections that stay here continue."""
        self.absent.clear()
        for served in handed:
            self.listeners.remove(served)
            served.listener.hand_over()
            self._retire(served)

    # ---- what is left of former ones

    def _retire(self, served: ActiveListener) -> None:
        self._former.append(served)
        if self._watch is None:
            self._watch = TurnWatch(self.tools.loop, self._look)  # at once: most have no connections

    def _look(self) -> None:
        """See whether the last connection of a former service has ended."""
        former = len(self._former)
        self._former = [served for served in self._former if not self._has_ended(served)]
        if not self._release_unused() and not self._former and self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if len(self._former) < former:
            gc.collect()  # modules of handlers are cycles: those of before a reload would stay for hours

    def _release_unused(self) -> bool:
        """Release relays and SOCKS servers without a listener; return whether some still have clients."""
        return self.tools.forwarding.release_unused(served.plan.service for served in (*self.listeners, *self.draining))

    def _has_ended(self, served: ActiveListener) -> bool:
        listener = served.listener
        if not listener.is_idle:
            return False
        if not all(self._remove_group(served.run, group) for group in listener.groups):
            return False
        serving = (*self.listeners, *self.draining)
        if not served.run.groups and all(one.run.hooks is not served.run.hooks for one in serving):
            served.run.hooks.close()
        return True

    def _remove_group(self, run: ServiceInstance, group: int) -> bool:
        connections, name = self.tools.connections, run.spec.name
        totals = connections.groups.totals(group)
        if not connections.groups.remove(group):
            return False
        run.groups.discard(group)
        self._past[name] = self._past.get(name, Totals()) + totals
        return True

    def _forget(self, run: ServiceInstance) -> None:
        """Undo an instance that never served."""
        for group in run.groups:
            self.tools.connections.groups.remove(group)
        run.hooks.close()

    def close(self) -> None:
        """Close the listeners, and call the shutdown hooks of every service that has not ended."""
        for run in {id(served.run): served.run for served in (*self._former, *self.draining, *self.listeners)}.values():
            run.hooks.close()
        for served in (*self.draining, *self.listeners):
            served.listening.close()

    # ---- asked

    def every(self) -> Iterator[ActiveListener]:
        """Yield every listener that still has connections."""
        yield from self._former
        yield from self.draining
        yield from self.listeners

    def find_by_group(self, group: int) -> ActiveListener | None:
        """Return the listener that accepted the connections of a group; None for those that are refused."""
        for served in self.every():
            if group in served.listener.groups:
                return served
        return None

    @property
    def connections(self) -> int:
        """Number of connections that are open or closing."""
        return len(self.tools.connections) + len(self.tools.forwarding)

    def count(self) -> int:
        """Return the number of connections and programs, in all processes."""
        return self.connections + self.programs

    def refresh(self) -> None:
        """Have numbers be as of now, as soon as others have told theirs: here, they are."""

    @property
    def memory(self) -> int:
        """Bytes of memory used by incomplete frames and pending output."""
        return self.tools.connections.memory

    @property
    def defects(self) -> int:
        """Number of defects that were survived."""
        return self.tools.loop.defects.count

    @property
    def replaced(self) -> Mapping[str, int]:
        """How many processes were replaced, by the reason: of one that serves alone, none."""
        return {}

    @property
    def programs(self) -> int:
        """Number of running programs."""
        return len(self.tools.executor)

    def running(self) -> list[dict[str, object]]:
        """Return of each running program its pid, its service, its client or listener, and its age."""
        return self.tools.executor.rows()

    def descriptors(self) -> Counter[str]:
        """Count the descriptors of each service: listening sockets, connections, and what these need besides."""
        held: Counter[str] = Counter(served.plan.service.name for served in (*self.listeners, *self.draining))
        for served in self.every():
            held[served.plan.service.name] += served.descriptors(self.tools.connections)
        for name, totals in self.tools.forwarding.totals().items():
            held[name] += 2 * totals.open
        return held

    def times(self) -> tuple[dict[str, Histogram], Histogram]:
        """Return the handler times of each service, and the times of the loop's turns."""
        return self.handlers, self.turns

    def goodbye(self, group: int) -> bytes:
        """Return the goodbye of the service of a group."""
        served = self.find_by_group(group)
        return served.run.goodbye if served else b""

    def service(self, group: int) -> str:
        """Return the name of the service of a group."""
        served = self.find_by_group(group)
        return served.run.spec.name if served else ""

    def add_past(self, name: str, totals: Totals) -> None:
        """Add the counts of a service in another process."""
        self._past[name] = self._past.get(name, Totals()) + totals

    def count_on(self, served: ActiveListener, counts: ListenerCounts) -> None:
        """Add what a listener has counted in another process."""
        served.listener.count_on(counts)

    def refused(self) -> dict[str, Counter[str]]:
        """Count the clients that each service's listeners have not served, by the reason."""
        return self._refused

    def peaks(self) -> Mapping[str, int]:
        """Return the most connections that each service has had at once."""
        return {name: quota.peak for name, quota in self._quotas.items()}

    def totals(self) -> dict[str, Totals]:
        """Return the counts of each service's connections since the start, by its name."""
        found = dict(self._past)
        for served in self.every():
            name = served.plan.service.name
            found.setdefault(name, Totals())
            for group in served.listener.groups:
                found[name] += self.tools.connections.groups.totals(group)
        for name, totals in self.tools.forwarding.totals().items():
            found[name] = found.get(name, Totals()) + totals
        return found


__all__ = ["CLOSED_SECONDS", "ActiveListener", "ListenerRegistry"]
