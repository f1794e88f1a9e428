# SPDX-License-Identifier: MIT
"""Channel between the old and the new process of an upgrade: messages with descriptors.

A message is one msgpack value after its size; its descriptors follow in pieces, because one call carries at most 253
(SCM_MAX_FD).  Both sides wait for each other with a deadline, never for ever. Source: unix(7), SCM_RIGHTS; cmsg(3).
"""

from __future__ import annotations

import array
import os
import socket
import struct
from typing import TYPE_CHECKING, TypeVar, Union

import msgspec

from sockd.daemon.upgrade import UPGRADE_VARIABLE
from sockd.errors import SystemFault, TemporaryFault

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

M = TypeVar("M", bound="Message")

HEAD = struct.Struct("=II")  # bytes of the message, descriptors behind it
PIECE = 128  # descriptors in one call; the kernel takes 253
TIMEOUT_S = 10.0
"""Time limit of one message: the other side does nothing else meanwhile."""


class Message(msgspec.Struct, tag=True, kw_only=True):
    """A message; each kind has its own class, whose name is sent along."""


class Channel:
    """One end of the pair.

    Args:
        sock: of a connected stream pair (AF_UNIX); owned from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.settimeout(TIMEOUT_S)

    def fileno(self) -> int:
        """Return the descriptor: readable when the other side has sent something, or has exited."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message.

        Args:
            descriptors: duplicated for the other side.

        Raises:
            TemporaryFault: the other side has exited, or does not read in time.
        """
        data = msgspec.msgpack.encode(message)
        try:
            self._socket.sendall(HEAD.pack(len(data), len(descriptors)) + data)
            for first in range(0, len(descriptors), PIECE):
                socket.send_fds(self._socket, [b"\0"], list(descriptors[first : first + PIECE]))
        except OSError as error:
            raise TemporaryFault(f"cannot send to the other process: {_words(error)}") from None

    def receive(self, *kinds: type[M]) -> tuple[M, list[int]]:
        """Wait for a message.

        Args:
            kinds: the classes of messages that are valid now.

        Returns:
            The message, and its descriptors, which are close-on-exec.

        Raises:
            EOFError: the other side has exited.
            TemporaryFault: no message in time, or another one.
        """
        descriptors: list[int] = []
        try:
            size, count = HEAD.unpack(self._exactly(HEAD.size))
            message = msgspec.msgpack.decode(self._exactly(size), type=Union[kinds])  # noqa: UP007 - of a tuple
            while len(descriptors) < count:
                some = self._some_descriptors()
                descriptors += some
                if not some:
                    raise TemporaryFault(
                        f"{len(descriptors)} of {count} descriptors arrived; the limit is RLIMIT_NOFILE"
                    )
        except BaseException as error:
            for fd in descriptors:
                os.close(fd)
            if isinstance(error, ConnectionResetError):  # it has not heard all that was said to it: unix(7), ECONNRESET
                raise EOFError from None
            if isinstance(error, msgspec.DecodeError):
                raise TemporaryFault(f"unexpected message from the other process: {error}") from None
            if isinstance(error, OSError):
                raise TemporaryFault(f"cannot receive from the other process: {_words(error)}") from None
            raise
        return message, descriptors

    def _some_descriptors(self) -> list[int]:
        """Receive a piece of them; socket.recv_fds() would leave them open in programs that are executed."""
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
        """Close it; the other side notices."""
        self._socket.close()


def _words(error: OSError) -> str:
    return "no reply in time" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)


def inherited_channel(environment: MutableMapping[str, str]) -> Channel | None:
    """Return this end, and remove the variable; None without a previous process.

    Raises:
        SystemFault: the variable does not name a socket.
    """
    text = environment.pop(UPGRADE_VARIABLE, None)
    if text is None:
        return None
    try:
        sock = socket.socket(fileno=int(text))
        sock.set_inheritable(False)
    except (OSError, ValueError):
        raise SystemFault(
            f"{UPGRADE_VARIABLE}: {text} is not a socket; only sockd sets this variable, unset it"
        ) from None
    return Channel(sock)


__all__ = ["Channel", "Message", "inherited_channel"]
