"""Names of clients: looked up in threads, with a deadline, confirmed, and remembered (FAQ IV.10).

Nothing waits for a name: a connection is served while its name is on the way,
and whoever asks gets what is known.  A name counts only when it leads back to
the address it came from (RFC 1912, 2.1), for whoever owns an address can give
it any name.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.admission import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.loop import EventLoop

WORKERS = 4
"""Look-ups under way at once; a resolver that hangs holds up these and nothing else."""
WAITING = 1024
"""Look-ups that may wait for a worker; more are not made."""
DEADLINE_SECONDS = 5.0
"""resolv.conf(5): one try of the stub resolver."""
KEPT_SECONDS = 600.0
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


class Resolver:
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
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._workers = 0

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
        elif len(self._asked) >= WAITING:
            answer(None)
        else:
            self._asked[host] = [answer]
            self._loop.call_later(self._deadline, lambda: self._tell(host, None))
            self._start(host)

    def _start(self, host: str) -> None:
        if self._workers < WORKERS:
            try:
                threading.Thread(target=self._work, name=f"resolver-{self._workers + 1}", daemon=True).start()
                self._workers += 1
            except (RuntimeError, MemoryError):  # EAGAIN of pthread_create(3)
                if not self._workers:
                    self._loop.call_soon(lambda: self._tell(host, None))
                    return
        self._queue.put(host)

    def _work(self) -> None:
        while (host := self._queue.get()) is not None:
            name = self._look_up(host)
            self._loop.call_soon_threadsafe(lambda host=host, name=name: self._learn(host, name))  # type: ignore[misc]

    def _learn(self, host: str, name: str | None) -> None:
        self._known[host] = (self._loop.clock() + KEPT_SECONDS, name)
        self._known.move_to_end(host)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        self._tell(host, name)

    def _tell(self, host: str, name: str | None) -> None:
        for answer in self._asked.pop(host, []):
            self._loop.call_soon(partial(answer, name))

    def close(self) -> None:
        """Let the workers end when their look-up does."""
        for _ in range(self._workers):
            self._queue.put(None)
