# SPDX-License-Identifier: MIT
# Seen failing against a daemon that forgets what the kernel did not take of a reply (both large replies, the preloaded
# calls), and one that forgets an unfinished frame (bytes one by one, every place to split, the preloaded calls).
"""I.4, partial reads and writes: a service never sees one, and no byte is lost, doubled or reordered."""

from __future__ import annotations

import fcntl
import random
import shutil
import socket
import struct
import subprocess
import termios
import threading

import pytest

MIB = 1 << 20

APP = """
import random
import sockd

def numbers(line):
    "A reply of so many bytes, of which no piece is like another."
    return random.Random(0).randbytes(int(line)).replace(b"\\n", b"x")

def measured(line):
    return b"%d:%s" % (len(line), line)

class Echo(sockd.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
"""


def numbers(size):
    return random.Random(0).randbytes(size).replace(b"\n", b"x")


def read_all_of(sock):
    """Wait until the daemon has received what was sent (SIOCOUTQ of unix(7) counts what is not read)."""
    while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]:
        pass


def test_bytes_that_arrive_one_by_one(daemon, tmp_path, read_exactly):
    one = daemon(f"unix:{tmp_path}/s=app:measured", app=APP)
    sock = one.connect()
    request = b"hello\r\n\nthe second line is longer\nx\n"
    for at in range(len(request)):
        sock.send(request[at : at + 1])
        read_all_of(sock)
    answer = b"5:hello\n0:\n25:the second line is longer\n1:x\n"
    assert read_exactly(sock, len(answer)) == answer


def test_every_place_to_split_a_request(daemon, tmp_path, read_exactly):
    one = daemon(f"unix:{tmp_path}/s=app:measured", app=APP)
    sock = one.connect()
    request = b"one\r\ntwo\n\nfour\r\n"
    answer = b"3:one\n3:two\n0:\n4:four\n"
    for at in range(1, len(request)):
        sock.send(request[:at])
        read_all_of(sock)
        sock.send(request[at:])
        assert read_exactly(sock, len(answer)) == answer, at


def test_64_mib_to_a_slow_reader(daemon, read_exactly):
    size = 64 * MIB
    one = daemon("tcp://127.0.0.1:0=app:numbers", app=APP)
    sock = one.connect(before=lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024))
    sock.sendall(b"%d\n" % size)
    answer = b"".join(read_exactly(sock, 523) for _ in range(4000))
    assert one.ask(b"8\n") == numbers(8) + b"\n"  # others are served meanwhile
    answer += read_exactly(sock, size + 1 - len(answer))
    assert answer == numbers(size) + b"\n"


def test_the_smallest_send_buffer(daemon, read_exactly):
    toml = "[[listen]]\naddress = 'tcp://127.0.0.1:0'\nservice = 'app:numbers'\nsend_buffer = 256\n"
    one = daemon(toml=toml, app=APP)
    sock = one.connect()
    size = MIB
    sock.sendall(b"%d\n%d\n" % (size, 40))
    assert read_exactly(sock, size + 1 + 40) == numbers(size) + b"\n" + numbers(40)


def test_both_directions_full_at_once(daemon, read_exactly):
    one = daemon("tcp://127.0.0.1:0=app:Echo", "tcp://127.0.0.1:0=echo", app=APP)
    data = numbers(16 * MIB)
    for index in range(2):
        sock = one.connect(index, before=lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024))
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        assert read_exactly(sock, len(data)) == data
        sender.join()


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/types.h>
#include <sys/socket.h>
static unsigned turn;
ssize_t recv(int fd, void *room, size_t size, int flags)
{
    ssize_t (*next)(int, void *, size_t, int) = (ssize_t (*)(int, void *, size_t, int))dlsym(RTLD_NEXT, "recv");
    if (++turn % 5 == 0) { errno = turn % 2 ? EINTR : EAGAIN; return -1; }
    return next(fd, room, size > 3 ? 1 + turn % 3 : size, flags);
}
ssize_t send(int fd, const void *data, size_t size, int flags)
{
    ssize_t (*next)(int, const void *, size_t, int) =
        (ssize_t (*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
    if (++turn % 7 == 0) { errno = turn % 2 ? EINTR : EAGAIN; return -1; }
    return next(fd, data, size > 5 ? 1 + turn % 5 : size, flags);
}
"""


@pytest.fixture
def short_calls(tmp_path):
    """Environment in which recv() gives 3 bytes at most, send() takes 5, and some do nothing."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "short.c", tmp_path / "short.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def test_short_reads_and_writes_preloaded(daemon, short_calls, read_to_end, name_of):
    services = ("upper", "echo", "app:measured", "app:Echo")
    listen = [f"tcp://127.0.0.1:0={service}" for service in services]
    one = daemon(*listen, app=APP, environment=short_calls)
    lines = [b"line %d %s\n" % (at, b"x" * (at % 50)) for at in range(300)]
    request = b"".join(lines)
    wanted = [
        request.upper(),
        request,
        b"".join(b"%d:%s" % (len(line) - 1, line) for line in lines),
        request,
    ]
    for index, answer in enumerate(wanted):
        sock = one.connect(index)
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == answer, listen[index]
        line = one.closed("eof", peer=name_of(sock))
        assert (line["received"], line["sent"]) == (len(request), len(answer))
