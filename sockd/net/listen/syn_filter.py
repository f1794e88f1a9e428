# SPDX-License-Identifier: MIT
"""Refusing new clients on a listening socket, while those already connecting are still accepted.

close(2) resets every connection in the queue, and a client whose handshake ends between the last accept(2) and
close(2) believes that it is connected.  So new clients are refused first, and then the queue is emptied.  TCP has no
call for that: a filter on the listening socket (socket(7), SO_ATTACH_FILTER) drops SYN segments and nothing else, so
that handshakes in progress complete, and a new client retries until the socket is closed and it is refused. A Unix
socket is shut down for receiving: connect(2) is refused then, and accept(2) still works. Observed with Linux 5.10 and
later; elsewhere nothing is done, and the queue is emptied as well as possible.

Newer kernels (6.18) let only CAP_NET_ADMIN attach a filter to a TCP socket, so after a drop of privileges nothing is
done either.  It cannot be attached earlier, because no filter can be switched on later, nor replaced without that
capability.  New clients are accepted until the socket is closed then, and one whose handshake ends in the microseconds
between the last accept(2) and close(2) is reset.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

from sockd.lazy import ctypes
from sockd.net.address.sockaddr import AF_VSOCK

HANDSHAKE_SECONDS = 1.0
"""Time for handshakes in progress: the first retransmission of a SYN+ACK (RFC 6298, 2.1)."""

SO_ATTACH_FILTER = 26
"""asm-generic/socket.h; elsewhere the option is refused, or none of this is done."""
TCP_FLAGS_OFFSET, TCP_SYN = 13, 0x02
"""RFC 9293, 3.1; a filter on a TCP socket sees the segment from its header on."""
_LOAD_BYTE, _JUMP_IF_SET, _RETURN = 0x30, 0x45, 0x06
"""BPF_LD | BPF_B | BPF_ABS, BPF_JMP | BPF_JSET | BPF_K, BPF_RET | BPF_K of linux/filter.h."""
_PROGRAM = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (_LOAD_BYTE, 0, 0, TCP_FLAGS_OFFSET),
        (_JUMP_IF_SET, 0, 1, TCP_SYN),
        (_RETURN, 0, 0, 0),
        (_RETURN, 0, 0, 0xFFFFFFFF),
    )
)
_INSTRUCTION_BYTES = 8


def refuse_new_clients(sock: socket.socket) -> None:
    """Refuse new clients of a listening socket, as far as this system can."""
    if sys.platform != "linux":
        return
    with suppress(OSError):
        if sock.family == socket.AF_UNIX:
            sock.shutdown(socket.SHUT_RD)
        elif sock.family != AF_VSOCK:  # which has no filters
            _drop_syn(sock)


def _drop_syn(sock: socket.socket) -> None:
    program = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM))
    length = len(_PROGRAM) // _INSTRUCTION_BYTES
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", length, ctypes.addressof(program)))
