# SPDX-License-Identifier: MIT
"""The table in Python's terms; what the C core does of it, csrc/tests/test_datagrams.c tests."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from sockd.net.udp.addresses import read_name
from sockd.net.udp.table import DATAGRAMS_A_TURN, DatagramTable


@pytest.fixture
def ends():
    with ExitStack() as stack:
        pair = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in "12"]
        for sock in pair:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        yield pair


def answer(table, places, replies):
    for place, reply in zip(places, replies, strict=True):
        table.add(place, reply)
    sent, unsent = table.flush()
    assert sent == len(replies) - len(unsent)
    return [*unsent]


@pytest.mark.parametrize("with_senders", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [[0], [1], [255, 256], [0, 1, 2, 3, 255, 256, 257, 65_507], [100] * 64, [60_000] * 5],
)
def test_payloads_of_any_size_and_number(ends, sizes, with_senders):
    server, client = ends
    table = DatagramTable(server, with_senders=with_senders)
    payloads = [os.urandom(size) for size in sizes]
    got, names, controls = [], [], []
    for payload in payloads:
        client.sendto(payload, server.getsockname())
    while len(got) < len(payloads):
        count = table.receive(DATAGRAMS_A_TURN)
        assert count == len(table.payloads) == table.plain
        got += table.payloads
        names += table.names
        controls += table.controls
    assert got == payloads
    assert [*map(read_name, names)] == [client.getsockname()] * len(payloads) * with_senders
    assert controls == [b""] * len(payloads) * with_senders
    assert table.receive(1) == 0
    assert (table.payloads, table.plain) == ([], 0)


@pytest.mark.parametrize("count", [1, 2, 3, DATAGRAMS_A_TURN])
def test_endings_come_back(ends, count):
    server, client = ends
    table = DatagramTable(server, ends_lines=True)
    sent = [b"%d" % number + (b"", b"\n", b"\r\n")[number % 3] for number in range(count)]
    for one in sent:
        client.sendto(one, server.getsockname())
    assert table.receive(DATAGRAMS_A_TURN) == count
    assert table.payloads == [one.rstrip() for one in sent]
    assert answer(table, [*range(count)], table.payloads) == []
    assert [client.recv(100) for _ in range(count)] == sent
    assert table.look(count - 1).size == len(sent[-1])


def test_an_error_belongs_to_its_answer(ends):
    server, client = ends
    table = DatagramTable(server)
    for _ in range(3):
        client.sendto(b"x", server.getsockname())
    table.receive(3)
    assert answer(table, [0, 1, 2], [b"a", bytes(65_508), b"c"]) == [(1, 65_508, errno.EMSGSIZE)]
    assert [client.recv(100), client.recv(100)] == [b"a", b"c"]


@pytest.mark.parametrize(
    ("family", "sockaddr"),
    [
        (socket.AF_INET, ("127.0.0.9", 0)),
        (socket.AF_INET6, ("::1", 0)),
        (socket.AF_UNIX, b"\0sockd-test-name"),
        (socket.AF_UNIX, "path"),
        (socket.AF_UNIX, None),
    ],
)
def test_senders_are_named_as_recvfrom_names_them(tmp_path, family, sockaddr, has_ipv6):
    if family == socket.AF_INET6 and not has_ipv6:
        pytest.skip("this host has no IPv6")
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind({socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}.get(family, f"{tmp_path}/s"))
        if sockaddr is not None:
            client.bind(f"{tmp_path}/c" if sockaddr == "path" else sockaddr)
        for _ in "12":
            client.sendto(b"x", server.getsockname())
        table = DatagramTable(server)
        table.receive(1)
        assert read_name(table.look(0).name) == server.recvfrom(10)[1]


def test_an_answer_of_later(ends):
    server, client = ends
    table = DatagramTable(server)
    client.sendto(b"x", server.getsockname())
    table.receive(1)
    one = table.look(0)
    table.answer_later(b"later", one.name, one.control)
    assert client.recv(100) == b"later"
    with pytest.raises(OSError, match="Message too long"):
        table.answer_later(bytes(65_508), one.name, one.control)


def test_calls_with_something_else_are_refused(ends):
    server, client = ends
    table = DatagramTable(server)
    client.sendto(b"x", server.getsockname())
    with pytest.raises(OSError, match="Invalid argument"):
        table.receive(0)
    assert table.receive(1) == 1
    for place, reply in [(0, None), (0, "x"), (0, bytearray(b"x")), ("0", b"x")]:
        with pytest.raises(TypeError):
            table.add(place, reply)
    for place in (-1, 1, 2**40):
        with pytest.raises(ValueError, match="no datagram"):
            table.add(place, b"x")
    for left in reversed(range(DATAGRAMS_A_TURN)):
        assert table.add(0, bytes(65_508)) == left
    with pytest.raises(ValueError, match="too many"):
        table.add(0, b"x")
    sent, failed = table.flush()
    assert (sent, len(failed)) == (0, DATAGRAMS_A_TURN)
    for arguments in [(), (server, 1, 1, None, None), (server, "1", 1, None, None, 1.0), (server, 1, 1, None, 1, "")]:
        with pytest.raises(TypeError):
            table._exchange(*arguments)
    with pytest.raises(TypeError, match="expected"):
        table._receive(1)
    with pytest.raises(TypeError, match="expected"):
        DatagramTable.__bases__[0]()._receive(0, 1, False)
    with pytest.raises(BlockingIOError):
        client.recv(10)


def test_calls_leak_no_references(ends):
    server, client = ends
    table = DatagramTable(server, with_senders=True)
    reply = b"a reply that is an object of its own"
    before = sys.getrefcount(reply)
    for _ in range(3000):
        client.sendto(b"a datagram", server.getsockname())
        table.receive(1)
        answer(table, [0, 0], [reply, bytes(70_000)])
        assert client.recv(100) == reply
    assert sys.getrefcount(reply) == before
    assert [sys.getrefcount(table.payloads[0]), sys.getrefcount(table.names[0])] == [2, 2]  # the list, and the call


@pytest.mark.skipif(sys.platform != "linux", reason="others have shorter paths")
@pytest.mark.parametrize("size", [106, 107, 108])
def test_the_longest_path_of_a_sender(size):
    """Linux counts a NUL behind a path of 108 bytes, and takes no such length back (unix(7), BUGS).

    Seen to fail: EINVAL for the answers to it, which were dropped.
    """
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    name = os.fsencode(folder / ("c" * size))[:size]
    libc = ctypes.CDLL(None)
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client,
        ):
            server.bind(str(folder / "s"))
            address = struct.pack("=H", socket.AF_UNIX) + name
            assert libc.bind(client.fileno(), address, len(address)) == 0
            client.setblocking(False)
            client.sendto(b"hello", server.getsockname())
            table = DatagramTable(server, with_senders=True)
            assert table.receive(1) == 1
            assert [read_name(one) for one in table.names] == [os.fsdecode(name)]
            assert answer(table, [0], [b"at once"]) == []
            table.answer_later(b"later", table.names[0], b"")
            assert [client.recv(100), client.recv(100)] == [b"at once", b"later"]
    finally:
        shutil.rmtree(folder)


def test_no_memory_for_a_batch_leaves_nothing_of_the_one_before(ends):
    """Else its datagrams would be handled twice, and answered to who sent those that replaced them."""
    _testcapi = pytest.importorskip("_testcapi", reason="CPython was built without its test modules")
    server, client = ends
    table = DatagramTable(server)
    failures = 0
    for at in range(1, 20):
        client.sendto(b"before", server.getsockname())
        assert table.receive(1) == 1
        table.next = 1
        client.sendto(b"x" * 600, server.getsockname())
        _testcapi.set_nomemory(at, at + 1)
        try:
            table.receive(1)
        except MemoryError:
            failures += 1
            assert not table.has_rest
        finally:
            _testcapi.remove_mem_hooks()
    assert failures


REENTRANT = """
import socket
from sockd.net.udp.table import DatagramTable

server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in "12")
server.bind(("127.0.0.1", 0))
table = DatagramTable(server)

class Another:
    __hash__ = None
    def __eq__(self, other):
        assert other == b"x" * 600, other
        client.sendto(b"y" * 600, server.getsockname())
        table.receive(1)
        return False

client.sendto(b"x" * 600, server.getsockname())
done = table.exchange(1, [Another(), Another()].count, lambda: 0.0, 1.0)
assert done[:2] == (1, 0), done
server.close(), client.close()
"""


def test_a_builtin_that_leads_to_another_batch_keeps_its_datagram(tmp_path):
    """It borrows its argument, and the list that it is of is replaced meanwhile."""
    ended = subprocess.run(
        [sys.executable, "-c", REENTRANT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
