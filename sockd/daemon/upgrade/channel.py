# SPDX-License-Identifier: MIT
"""From one process to the next: the program started anew, and messages with descriptors between the two.

A message is one msgpack value behind its size; the descriptors that go with it follow in pieces, for
one call carries 253 at most (SCM_MAX_FD).  Both sides wait for each other with a deadline, never for ever.
Source: unix(7), SCM_RIGHTS; cmsg(3).
"""

from __future__ import annotations

import array
import os
import socket
import struct
from typing import TYPE_CHECKING, TypeVar, Union

import msgspec

from sockd.errors import SystemFault, TemporaryFault

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

M = TypeVar("M", bound="Message")

VARIABLE = "SOCKD_UPGRADE_FD"
"""Number of the descriptor on which the process before us speaks; set by it alone."""
HEAD = struct.Struct("=II")  # bytes of the message, descriptors behind it
PIECE = 128  # descriptors in one call; the kernel takes 253
TIMEOUT_S = 10.0
"""For one message: the other side does nothing else meanwhile."""


class Message(msgspec.Struct, tag=True, kw_only=True):
    """What is said; each kind has its own class, whose name tells which it is."""


class Channel:
    """One end of the pair.

    Args:
        sock: of a connected stream pair (AF_UNIX); owned from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.settimeout(TIMEOUT_S)

    def fileno(self) -> int:
        """Return the descriptor: readable when the other side said something, or has ended."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Say something.

        Args:
            descriptors: duplicated for the other side.

        Raises:
            TemporaryFault: the other side has ended, or does not listen in time.
        """
        data = msgspec.msgpack.encode(message)
        try:
            self._socket.sendall(HEAD.pack(len(data), len(descriptors)) + data)
            for first in range(0, len(descriptors), PIECE):
                socket.send_fds(self._socket, [b"\0"], list(descriptors[first : first + PIECE]))
        except OSError as error:
            raise TemporaryFault(f"the other process does not listen: {_words(error)}") from None

    def receive(self, *kinds: type[M]) -> tuple[M, list[int]]:
        """Wait for what the other side says.

        Args:
            kinds: the classes of messages that it may say now.

        Returns:
            The message, and its descriptors, which are close-on-exec.

        Raises:
            EOFError: the other side has ended.
            TemporaryFault: it said nothing in time, or something else.
        """
        descriptors: list[int] = []
        try:
            size, count = HEAD.unpack(self._exactly(HEAD.size))
            message = msgspec.msgpack.decode(self._exactly(size), type=Union[kinds])  # noqa: UP007 - of a tuple
            while len(descriptors) < count:
                some = self._some_descriptors()
                descriptors += some
                if not some:
                    raise TemporaryFault(f"{len(descriptors)} of {count} descriptors came; the limit is RLIMIT_NOFILE")
        except BaseException as error:
            for fd in descriptors:
                os.close(fd)
            if isinstance(error, ConnectionResetError):  # it has not heard all that was said to it: unix(7), ECONNRESET
                raise EOFError from None
            if isinstance(error, msgspec.DecodeError):
                raise TemporaryFault(f"the other process says something else: {error}") from None
            if isinstance(error, OSError):
                raise TemporaryFault(f"the other process says nothing: {_words(error)}") from None
            raise
        return message, descriptors

    def _some_descriptors(self) -> list[int]:
        """Receive a piece of them; socket.recv_fds() leaves them open in programs that are executed."""
        some = array.array("i")
        room = socket.CMSG_SPACE(PIECE * some.itemsize)
        _, ancillary, _, _ = self._socket.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                some.frombytes(data[: len(data) - len(data) % some.itemsize])
        return some.tolist()

    def _exactly(self, size: int) -> bytes:
        accepted = bytearray()
        while len(accepted) < size:
            piece = self._socket.recv(size - len(accepted))
            if not piece:
                raise EOFError
            accepted += piece
        return bytes(accepted)

    def close(self) -> None:
        """End it; the other side sees that."""
        self._socket.close()


def _words(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)


def channel_of(environment: MutableMapping[str, str]) -> Channel | None:
    """Return our end, and remove the variable; None when no process was before us.

    Raises:
        SystemFault: what the variable names is no socket.
    """
    text = environment.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        sock = socket.socket(fileno=int(text))
        sock.set_inheritable(False)
    except (OSError, ValueError):
        raise SystemFault(f"{VARIABLE}: {text} is no socket; sockd alone sets it, unset it") from None
    return Channel(sock)


__all__ = ["VARIABLE", "Channel", "Message", "channel_of"]
