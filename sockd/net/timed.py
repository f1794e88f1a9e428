"""Watches how long the handlers of a service take, without a cost that its lines would notice."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from sockd.net.sink import Sink

if TYPE_CHECKING:
    from sockd.metrics import Histogram
    from sockd.wire.state import CloseReason


class Timed(Sink):
    """Tells another sink all that it is told, and measures every `every`-th time that frames are handed to it.

    Args:
        sink: the service's.
        histogram: of seconds.
        every: 1 where a whole turn's frames come at once.
    """

    def __init__(self, sink: Sink, histogram: Histogram, every: int) -> None:
        self._histogram = histogram
        self._every = every
        self._left = 1
        self._frames = sink.frames
        self.accepted = sink.accepted  # type: ignore[method-assign]  # no frame of ours between: all but frames goes by
        self.ended = sink.ended  # type: ignore[method-assign]  # likewise
        self.pause = sink.pause  # type: ignore[method-assign]  # likewise
        self.resume = sink.resume  # type: ignore[method-assign]  # likewise
        self.snapshot = sink.snapshot  # type: ignore[method-assign]  # likewise
        self.restore = sink.restore  # type: ignore[method-assign]  # likewise
        self.forget = sink.forget  # type: ignore[method-assign]  # likewise
        self.is_busy = sink.is_busy  # type: ignore[method-assign]  # likewise
        self.stop = sink.stop  # type: ignore[method-assign]  # likewise
        self.tell_unfinished = sink.tell_unfinished  # type: ignore[method-assign]  # likewise
        self._closed = sink.closed
        self._sink = sink

    @property
    def at_work(self) -> int:
        """Ask it."""
        return self._sink.at_work

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Hand on, and measure it when it is time to."""
        self._left -= 1
        if self._left:
            self._frames(index, id, part, offset, size, count)
            return
        self._left = self._every
        began = perf_counter()
        self._frames(index, id, part, offset, size, count)
        self._histogram.observe(perf_counter() - began)

    def closed(self, id: int, reason: CloseReason) -> None:
        """Hand on."""
        self._closed(id, reason)
