# SPDX-License-Identifier: MIT
"""Names of clients: looked up in threads, with a deadline, confirmed, and remembered (FAQ IV.10).

Nothing waits for a name: a connection is served while its name is on the way,
and whoever asks gets what is known.  A name counts only when it leads back to
the address it came from (RFC 1912, 2.1), for whoever owns an address can give
it any name.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from functools import cached_property, partial
from typing import TYPE_CHECKING

from sockd.lazy import lazily
from sockd.net.address.sockaddr import plain
from sockd.net.loop.shares import source_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop import blocking_calls
    from sockd.net.loop.loop import EventLoop
else:
    blocking_calls = lazily("sockd.net.loop.blocking_calls", resident=True)

WORKERS, WAITING = 4, 1024
"""Look-ups under way, and those that may wait for a thread; more are not made (sockd.net.loop.blocking_calls: a share
for each source, so that a resolver that hangs for one holds up a part of these and nothing else)."""
DEADLINE_SECONDS = 5.0
"""resolv.conf(5): one try of the stub resolver."""
KEPT_SECONDS, KEPT_FAILURE_SECONDS = 600.0, 60.0
KEPT = 10_000


def confirmed_name(host: str) -> str | None:
    """Look a name up, and its addresses; BLOCKS.

    Args:
        host: a numeric address.

    Returns:
        The name if one of its addresses is the host, else None.
    """
    try:
        name = socket.getnameinfo((host, 0), socket.NI_NAMEREQD)[0]
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return name if plain(host) in {plain(str(sockaddr[0])) for *_, sockaddr in found} else None


class ReverseDns:
    """Client names for the loop.

    Args:
        loop: told of answers; its clock measures.
        look_up: from an address to its confirmed name; runs in a thread.
        deadline: seconds after which an answer counts as none (a later one is still remembered).
    """

    def __init__(
        self,
        loop: EventLoop,
        look_up: Callable[[str], str | None] = confirmed_name,
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self._loop = loop
        self._look_up = look_up
        self._deadline = deadline
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()
        self._asked: dict[str, list[Callable[[str | None], None]]] = {}

    @cached_property
    def _workers(self) -> blocking_calls.BlockingCalls:
        return blocking_calls.BlockingCalls(self._loop, "resolver", threads=WORKERS, waiting=WAITING)

    def known(self, host: str) -> str | None:
        """Return the name if it is known by now."""
        expires, name = self._known.get(host, (0.0, None))
        return name if expires > self._loop.clock() else None

    def ask(self, host: str, answer: Callable[[str | None], None]) -> None:
        """Have `answer(name)` called, at once when it is known, at the deadline at the latest.

        Args:
            host: a numeric address.
            answer: called once in the loop, with None for no name.
        """
        expires, name = self._known.get(host, (0.0, None))
        if expires > self._loop.clock():
            answer(name)
        elif host in self._asked:
            self._asked[host].append(answer)
        else:
            self._asked[host] = [answer]
            self._workers.ask(partial(self._find, host), partial(self._found, host), self._deadline, source_key(host))

    def _find(self, host: str) -> str | None:
        """Look up (in a thread), and have it remembered also when it is too late for whoever asked."""
        name = self._look_up(host)
        self._loop.call_soon_threadsafe(partial(self._learn, host, name))
        return name

    def _found(self, host: str, answer: str | BaseException | None) -> None:
        if isinstance(answer, BaseException):
            if not isinstance(answer, blocking_calls.Overloaded):
                self._learn(host, None)
            answer = None
        for one in self._asked.pop(host, []):
            self._loop.call_soon(partial(one, answer))

    def _learn(self, host: str, name: str | None) -> None:
        kept = KEPT_SECONDS if name is not None else KEPT_FAILURE_SECONDS
        self._known[host] = (self._loop.clock() + kept, name)
        self._known.move_to_end(host)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def close(self) -> None:
        """Let the threads end when their look-up does."""
        if "_workers" in vars(self):  # somebody has asked for a name
            self._workers.close()
