# SPDX-License-Identifier: MIT
"""Serves frames by a function that blocks, in threads: `Service(blocking=True)`.

A connection with frames in the pool is not read and not closed by a stop, so that its replies keep their order and its
peer is held back.  A thread returns a connection with many frames after a slice of time, so that others get their share
and replies are sent before the last one is ready.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from sockd.errors import Close, is_close
from sockd.log.failure import end_copy, error_info, user_line
from sockd.net.address.sockaddr import plain
from sockd.net.connection.codec import reply_bytes
from sockd.net.connection.events import ConnectionEvents
from sockd.net.connection.info import log_end
from sockd.net.loop.shares import ip_source_key
from sockd.net.loop.thread_pool import Work
from sockd.services.handlers.batch import encode
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sockd.net.connection.codec import Codec
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.services.api import BatchFunction, LineFunction, Reply
    from sockd.wire.framing import Frame

logger = logging.getLogger("sockd.handler")

SLICE_SECONDS = 0.005
"""A thread's time for one connection; a longer call is a turn of its own."""
LEAST_SLICE_SECONDS = 0.001
"""... where many connections wait: below this, handing over costs more than a tenth."""
ROUND_SECONDS = 0.1
"""In which each connection that waits has its slice, as far as these two allow it."""


class Job:
    """Frames of one connection that are with the pool.

    Attributes:
        source: whose share of threads they take.
        at: the first frame that was not answered yet.
        lost: the connection has ended.
        is_last: it ends once these are answered.
    """

    __slots__ = ("at", "endings", "frames", "id", "is_last", "lost", "source")

    def __init__(self, id: int, frames: list[Frame], endings: list[bytes] | None, source: Hashable) -> None:
        self.id = id
        self.source = source
        self.frames = frames
        self.endings = endings
        self.at = 0
        self.lost = False
        self.is_last = False


class Answers:
    """The result of a thread: bytes, and the exception after them, if any."""

    __slots__ = ("error", "frame_bytes", "frames")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.error: BaseException | None = None
        self.frame_bytes = 0


class BlockingHandler(ConnectionEvents):
    """Hands the frames of a connection to the pool, and sends what comes back.

    Args:
        service: its name, for the log.
        function: answers one frame, in threads; None where a batch answers.
        batch: answers all frames of a turn; None where a function does.
        codec: cuts frames, and makes them of replies.
        connections: where frames come from.
        pool: of threads.
    """

    def __init__(
        self,
        service: str,
        function: LineFunction | None,
        batch: BatchFunction | None,
        codec: Codec,
        connections: ConnectionTable,
        pool: ThreadPool,
    ) -> None:
        self._service = service
        self._function = function
        self._batch = batch
        self._codec = codec
        self._table = connections
        self._pool = pool
        self._jobs: dict[int, Job] = {}

    def frames(self, index: int, id: int, part: int, offset: int, size: int, count: int) -> None:
        """Take the frames of one connection, which is not read until they are answered."""
        source = self._source(id)
        job = Job(id, self._codec.cut(offset, size, count), self._codec.endings(offset, size), source)
        self._jobs[id] = job
        self._table.pause(id, True)
        self._submit(job)

    def closed(self, id: int, reason: CloseReason) -> None:
        """Log the end; what its frames would have been answered is dropped."""
        job = self._jobs.pop(id, None)
        if job is not None:
            job.lost = True
        log_end(self._service, self._table, id, reason)

    def snapshot(self, id: int) -> object:
        """Let a connection go unless frames of it are with the pool."""
        return None if id in self._jobs else True

    def is_busy(self, id: int) -> bool:
        """Tell whether frames of the connection are with the pool."""
        return id in self._jobs

    def stop(self, id: int, *, now: bool) -> None:
        """Close the connection once its frames are answered, instead of reading more."""
        self._jobs[id].is_last = now

    def _submit(self, job: Job) -> None:
        answer, answered = partial(self._answer, job), partial(self._answered, job)
        abort = partial(self._abort, job, CloseReason.ABORTED)
        if not self._pool.submit(Work(self._service, answer, answered, abort), job.source):
            self._abort(job, CloseReason.LIMIT)

    def _source(self, id: int) -> Hashable:
        """Return whose share of threads a connection has; None for this host, which has no limits by default either."""
        host = self._table.peers.find(id).host
        address = plain(host) if host else None
        return None if address is None or address.is_loopback else ip_source_key(address)

    def _abort(self, job: Job, reason: CloseReason) -> None:
        if not job.lost:
            self._jobs.pop(job.id, None)
            self._table.abort(job.id, reason)

    # ---- in a thread

    def _answer(self, job: Job) -> Answers:
        answers = Answers()
        share = ROUND_SECONDS / max(1, self._pool.at_work)  # one interpreter computes for all threads
        end = time.monotonic() + min(SLICE_SECONDS, max(LEAST_SLICE_SECONDS, share))
        try:
            if self._batch is not None:
                answers.frames.append(self._all(self._batch, job))
            else:
                while job.at < len(job.frames) and not job.lost:
                    answers.frames.append(self._one(job))
                    if time.monotonic() >= end:
                        break
        except Close as close:
            self._close(job, close, answers)
        except BaseException as error:  # also SystemExit: it is this connection's handler alone
            end_copy(error)
            answers.error = error
        if answers.error is not None and job.at < len(job.frames):
            answers.frame_bytes = self._codec.payload_size(job.frames[job.at])
        return answers

    def _one(self, job: Job) -> bytes:
        assert self._function is not None
        answer = self._encode(self._function(job.frames[job.at]), job)
        job.at += 1
        return answer

    def _all(self, batch: BatchFunction, job: Job) -> bytes:
        answer = encode(batch(job.frames), self._codec, len(job.frames), job.endings)
        job.at = len(job.frames)
        return answer

    def _close(self, job: Job, close: Close, answers: Answers) -> None:
        try:
            answers.frames.append(self._encode(close.last_words, job))
        except BaseException as error:  # what they are is the handler's doing
            answers.error = error
        else:
            answers.error = close

    def _encode(self, reply: Reply, job: Job) -> bytes:
        if reply is None:
            return b""
        return reply_bytes(reply) + job.endings[job.at] if job.endings else self._codec.encode(reply)

    # ---- in the loop

    def _answered(self, job: Job, answers: Answers) -> None:
        if job.lost:
            return
        if block := b"".join(answers.frames):
            self._table.write(job.id, block)
        if answers.error is None and job.at < len(job.frames):
            self._submit(job)
            return
        del self._jobs[job.id]
        if answers.error is not None:
            self._end(job, answers.error, answers.frame_bytes)
        elif job.is_last:
            self._table.shut(job.id, CloseReason.SHUTDOWN)
        else:
            self._table.pause(job.id, False)

    def _end(self, job: Job, error: BaseException, frame_bytes: int) -> None:
        if is_close(error):
            self._table.shut(job.id, CloseReason.CLOSED)
            return
        at = user_line(error, self._function or self._batch)
        event: dict[str, object] = {"service": self._service, "peer": str(self._table.peers.find(job.id))}
        event |= {"at": at, "frame_bytes": frame_bytes}
        logger.error("handler failed", exc_info=error_info(error), extra={"event": event})
        self._table.shut(job.id, CloseReason.HANDLER_ERROR)
