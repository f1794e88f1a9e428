# SPDX-License-Identifier: MIT
"""The verbs that are followed: `trace` and `events`, whose reply goes on until its client goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.daemon.control.streams import MAX_STREAMS, Stream
from sockd.daemon.control.tracing import INTERVAL_SECONDS, Trace, Tracer, TraceSubject, traceable_services
from sockd.errors import TemporaryFault, UsageError
from sockd.log.events import EVENT_CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sockd.daemon.control.server import Words
    from sockd.daemon.control.tracing import Record
    from sockd.daemon.listeners import ListenerRegistry
    from sockd.log.events import DaemonEvents

    Emit = Callable[[list[Record], int], None]
    Begin = Callable[[Mapping[str, object], Emit, Callable[[], None]], Callable[[], None]]


class TraceStream:
    """Sends what was seen to a client, as many frames a second as it wants, from however many processes they come.

    Args:
        rate: frames a second.
        clock: in seconds.
    """

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        self.stop: Callable[[], None] = lambda: None
        self.stream = Stream(self._ended)
        self._rate = rate
        self._clock = clock
        self._capacity = max(2.0, 2 * rate * INTERVAL_SECONDS)  # 2: intervals are not of the same length to the last us
        self._credit = self._capacity
        self._at = clock()

    def _ended(self) -> None:
        self.stop()

    def emit(self, records: list[Record], left_out: int) -> None:
        """Send records, as many as there is room for, and how many were left out."""
        now = self._clock()
        self._credit = min(self._capacity, self._credit + (now - self._at) * self._rate)
        self._at = now
        room = int(self._credit)
        for record in records[:room]:
            self.stream.send(record)
        self._credit -= min(room, len(records))
        left_out += max(0, len(records) - room)
        if left_out:
            self.stream.send({"left_out": left_out})


class FollowedVerbs:
    """Replies that go on.

    Args:
        serving: what is served.
        events: of the daemon.
    """

    def __init__(self, serving: ListenerRegistry, events: DaemonEvents) -> None:
        self._serving = serving
        self._events = events
        self._tracer = Tracer(serving)
        self._streams: list[Stream] = []

    def begin_trace(
        self, words: Mapping[str, object], emit: Emit, then: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        """Begin a trace in this process; return what ends it.

        Args:
            words: of the verb.
            emit: gets what is seen.
            then: called once it is on.

        Raises:
            UsageError, TemporaryFault: as Trace and Tracer.
        """
        seen, unseen = traceable_services(self._serving)
        subject = TraceSubject.read(str(words["subject"]), [*seen, *unseen])
        rate, shown = int(str(words["rate"])), int(str(words["bytes"]))
        trace = Trace(subject, rate, shown, emit, self._serving.tools.loop)
        self._tracer.add(trace)
        then()
        return lambda: self._tracer.remove(trace)

    def trace(self, words: Words, begin: Begin | None = None) -> Stream:
        """Follow the frames of a service, a connection or a network.

        Args:
            words: of the verb.
            begin: begins a trace in all processes that serve; None: in this one.
        """
        seen, unseen = traceable_services(self._serving)
        subject = TraceSubject.read(words["subject"], [*seen, *unseen])
        if subject.service in unseen:
            why = "its bytes pass in the kernel, or its program reads them"
            raise UsageError(f"{subject.service}: {why}, so sockd sees no frames; use tcpdump on its address")
        self._make_room()
        following, first = TraceStream(words["rate"], self._clock), {"tracing": words["subject"], "unseen": unseen}
        following.stop = (begin or self.begin_trace)(words, following.emit, lambda: following.stream.open(first))
        self._streams.append(following.stream)
        return following.stream

    def events(self, words: Words) -> Stream:
        """Follow what the daemon does, from the last so many events on."""
        if words["last"] < 0:
            raise UsageError(f"last {words['last']}: must be 0 or more")
        self._make_room()
        stream = Stream(lambda: self._events.leave(stream.send))
        self._events.follow(stream.send)
        stream.open({"categories": list(EVENT_CATEGORIES)})
        for event in list(self._events.recent)[-words["last"] :] if words["last"] else ():
            stream.send(event)
        self._streams.append(stream)
        return stream

    @property
    def _clock(self) -> Callable[[], float]:
        return self._serving.tools.loop.clock

    def _make_room(self) -> None:
        self._streams = [one for one in self._streams if not one.is_over]
        if len(self._streams) >= MAX_STREAMS:
            raise TemporaryFault(f"{MAX_STREAMS} clients follow this daemon already; end one of them")


__all__ = ["Begin", "Emit", "FollowedVerbs", "TraceStream"]
