# SPDX-License-Identifier: MIT
"""Clients by their networks, where a program accepts or receives by itself: the kernel drops what others send.

A filter on the socket (socket(7), SO_ATTACH_FILTER) looks at the source address of every datagram, and of every
segment for a listening socket; whoever is not allowed gets no answer at all.  It is inherited by accepted sockets,
whose source is the same.  A program cannot have the same rules in another way: it has the socket alone, and sockd sees
nothing of its clients.  Source: the kernel's networking/filter.rst, linux/filter.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING

from sockd.errors import SystemFault
from sockd.lazy import ctypes
from sockd.net.address.sockaddr import AF_VSOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sockd.settings.networks import Network

    Instruction = tuple[int, int, int, int]

SO_ATTACH_FILTER = SO_GET_FILTER = 26
"""asm-generic/socket.h."""
INSTRUCTION_BYTES = 8
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS: some 1,000 networks of IPv4, or 300 of IPv6."""
NETWORK_HEADER = 0xFFF00000
"""SKF_NET_OFF: offsets from the IP header, wherever the filter begins to read."""
PROTOCOL = 0xFFFFF000
"""SKF_AD_OFF + SKF_AD_PROTOCOL: which of the two protocols a packet is of; on a socket of both families, either."""
IPV4, IPV6 = 0x0800, 0x86DD
"""ETH_P_IP and ETH_P_IPV6 of linux/if_ether.h."""
SOURCE = {4: NETWORK_HEADER + 12, 6: NETWORK_HEADER + 8}
"""RFC 791, 3.1; RFC 8200, 3."""
_LOAD, _AND, _JUMP_IF_EQUAL, _JUMP, _RETURN = 0x20, 0x54, 0x15, 0x05, 0x06
"""BPF_LD | BPF_W | BPF_ABS, BPF_ALU | BPF_AND | BPF_K, BPF_JMP | BPF_JEQ | BPF_K, BPF_JMP | BPF_JA, BPF_RET | BPF_K."""
_PASS, _DROP = (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)


def restrict(sock: socket.socket, allow: Sequence[Network], deny: Sequence[Network]) -> None:
    """Have the kernel drop what clients send who are denied, or not allowed; without networks, drop nothing any more.

    Args:
        sock: of datagrams, or listening.  A Unix socket is left alone: the mode of its path decides; so is a vsock.

    Raises:
        SystemFault: the system has no such filters, these are too many networks, or this process may not change it
            (of TCP, new kernels let only root do that); it has not to where the same filter is attached already.
    """
    if is_restricted(sock, allow, deny):
        return
    text = "allow and deny of a service with wait = true need a filter in the kernel (SO_ATTACH_FILTER)"
    try:
        if sys.platform != "linux":
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        data = _pack(make_filter(allow, deny))
        if len(data) > MAX_INSTRUCTIONS * INSTRUCTION_BYTES:
            raise OSError(errno.E2BIG, f"too many networks for one filter: {len(allow) + len(deny)}")
        program = ctypes.create_string_buffer(data, len(data))
        attached = struct.pack("@HP", len(data) // INSTRUCTION_BYTES, ctypes.addressof(program))
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
    except OSError as error:
        remedy = "; restart as root to change them" if error.errno == errno.EPERM else ""
        raise SystemFault(f"{text}: {error.strerror}{remedy}") from None


def check_restrict(sock: socket.socket, allow: Sequence[Network], deny: Sequence[Network]) -> None:
    """Raise as restrict() would, and change nothing."""
    if not is_restricted(sock, allow, deny):
        with socket.socket(sock.family, sock.type) as probe:
            restrict(probe, allow or deny, deny)  # an empty filter is one more that is not attached yet


def is_restricted(sock: socket.socket, allow: Sequence[Network], deny: Sequence[Network]) -> bool:
    """Tell whether these are in effect: by the filter that the socket has, whoever has attached it."""
    if sock.family in (socket.AF_UNIX, AF_VSOCK):
        return True
    attached = _attached(sock)
    return attached == _pack(make_filter(allow, deny)) or (attached == b"" and not (allow or deny))


def _attached(sock: socket.socket) -> bytes | None:
    """Return the filter of a socket; empty: none, None: not known.  Its length counts instructions, and not bytes."""
    if sys.platform != "linux":
        return None
    buffer = ctypes.create_string_buffer(MAX_INSTRUCTIONS * INSTRUCTION_BYTES)
    length = ctypes.c_uint(MAX_INSTRUCTIONS)
    getsockopt = ctypes.CDLL(None).getsockopt
    if getsockopt(sock.fileno(), socket.SOL_SOCKET, SO_GET_FILTER, buffer, ctypes.byref(length)) < 0:
        return None
    return buffer.raw[: length.value * INSTRUCTION_BYTES]


def _pack(instructions: Iterable[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *one) for one in instructions)


def make_filter(allow: Sequence[Network], deny: Sequence[Network]) -> Iterator[Instruction]:
    """Return the instructions: deny goes before allow, and an empty allow is everybody."""
    rules = [*((one, _DROP) for one in deny), *((one, _PASS) for one in allow)]
    otherwise = _DROP if allow else _PASS
    by_version = {version: [*_match_all(rules, version), otherwise] for version in (4, 6)}
    yield _LOAD, 0, 0, PROTOCOL
    yield _JUMP_IF_EQUAL, 1, 0, IPV4
    yield _JUMP, 0, 0, len(by_version[4])
    yield from by_version[4]
    yield _JUMP_IF_EQUAL, 1, 0, IPV6
    yield _DROP
    yield from by_version[6]


def _match_all(rules: Iterable[tuple[Network, Instruction]], version: int) -> Iterator[Instruction]:
    for network, verdict in rules:
        if network.version == version:
            yield from _match(network, verdict)


def _match(network: Network, verdict: Instruction) -> Iterator[Instruction]:
    """Return what gives a verdict if the source is in a network, word by word, and else goes on behind it."""
    value, mask = (int(one).to_bytes(network.max_prefixlen // 8, "big") for one in (network[0], network.netmask))
    words = [(struct.unpack_from(">I", value, at)[0], struct.unpack_from(">I", mask, at)[0], at)
             for at in range(0, len(value), 4)]  # fmt: skip
    compared = [(word, bits, at) for word, bits, at in words if bits]
    for left, (word, bits, at) in zip(range(len(compared) - 1, -1, -1), compared, strict=True):
        yield _LOAD, 0, 0, SOURCE[network.version] + at
        yield _AND, 0, 0, bits
        yield _JUMP_IF_EQUAL, 0, 3 * left + 1, word
    yield verdict


__all__ = ["check_restrict", "is_restricted", "make_filter", "restrict"]
