# SPDX-License-Identifier: MIT
"""What comes from outside costs its own connection at most, whatever handlers raise, peers are and questions hold.

Seen to fail before the borders had guards: each test but those of ordinary exceptions ended the daemon or a worker.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from controlling import Sockctl

APP = """
import argparse
import asyncio

import sockd


class Own(BaseException):
    pass


class Unprintable(Exception):
    def __str__(self):
        raise SystemExit

    __repr__ = __str__


class Odd(Exception):
    @property
    def __class__(self):
        raise SystemExit


ERRORS = {
    "SystemExit": SystemExit(2), "KeyboardInterrupt": KeyboardInterrupt(), "GeneratorExit": GeneratorExit(),
    "CancelledError": asyncio.CancelledError(), "StopIteration": StopIteration(), "Own": Own(),
    "MemoryError": MemoryError(), "RecursionError": RecursionError(), "Unprintable": Unprintable(), "Odd": Odd(),
    "ValueError": ValueError(), "Close": sockd.Close(("no", "bytes")),
}
calls = []


def act(line):
    if line.startswith(b"raise "):
        calls.append(line)
        raise ERRORS[line.decode().split()[1]]
    if line == b"calls":
        return b"%d" % len(calls)
    return line


def with_connection(line, connection):
    return act(line)


batch = sockd.Service()
batch.frames(lambda lines: [act(line) for line in lines])
blocking = sockd.Service(blocking=True)
blocking.frame(act)
blocking_batch = sockd.Service(blocking=True)
blocking_batch.frames(lambda lines: [act(line) for line in lines])
netstring = sockd.Service(framing=sockd.Netstring(max_bytes=1000))
netstring.frame(act)


class Protocol(sockd.LineProtocol):
    def line_received(self, line):
        reply = act(line)
        if reply is not None:
            self.send_line(reply)


class Buffered(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, hint):
        self.buffer = bytearray(max(hint, 1000))
        return self.buffer

    def buffer_updated(self, size):
        self.transport.write(act(bytes(self.buffer[:size]).rstrip()) + b"\\n")


class At(sockd.LineProtocol):
    \"\"\"Raises at the callback that its first line names.\"\"\"
    name = error = ""

    def line_received(self, line):
        words = line.decode().split()
        if words[0] == "echo":
            self.send_line(line)
        elif words[0] == "timer":
            self.transport.call_later(0.01, act, b"raise " + words[1].encode())
        else:
            self.name, self.error = words
            if self.name == "pause_writing":
                self.transport.set_write_buffer_limits(1000)
                self.send_line(b"x" * 30_000_000)
            self.send_line(b"armed")

    def fail(self, name):
        if self.name == name:
            raise ERRORS[self.error]

    def eof_received(self):
        self.fail("eof_received")

    def pause_writing(self):
        self.fail("pause_writing")

    def connection_lost(self, exc):
        self.fail("connection_lost")


class Made(sockd.LineProtocol):
    first = True

    def connection_made(self, transport):
        super().connection_made(transport)
        if Made.first:
            Made.first = False
            raise ERRORS[NAME]

    def line_received(self, line):
        self.send_line(line)


async def coroutine(reader, writer):
    async for line in reader:
        writer.write(act(line.rstrip()) + b"\\n")


async def task(reader, writer):
    async def other(line):
        writer.write(act(line) + b"\\n")

    async for line in reader:
        await asyncio.gather(asyncio.create_task(other(line.rstrip())))


parser = argparse.ArgumentParser(prog="cmd")
parser.add_argument("n", type=int)


def cmd(line):
    return b"%d" % parser.parse_args(line.decode().split()).n
"""
NAMES = [
    "SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError", "StopIteration", "Own", "MemoryError",
    "RecursionError", "Unprintable", "Odd", "ValueError", "Close",
]  # fmt: skip
KINDS = ["act", "with_connection", "batch", "blocking", "blocking_batch", "Protocol", "Buffered", "coroutine", "task"]


@pytest.fixture
def app(launch, tmp_path):
    """The directory of the daemon, with the handlers; launch() puts the other tests' there first."""
    (tmp_path / "borders.py").write_text(APP)
    return tmp_path


def listeners(*services, extra=""):
    return extra + "".join(f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{one}"\n' for one in services)


def where(server, service):
    return next(event["address"] for event in server.having("listening", service=service))


# ---- what handlers raise


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_handler_raises_ends_its_connection_alone(serve, app, kind):
    server = serve(config=listeners(f"borders:{kind}"))
    honest = server.connect()
    for name in NAMES:
        peer = server.connect()
        assert peer.ask(b"before") == b"before"
        peer.send(b"raise %s\n" % name.encode())
        assert peer.to_end() == b"", name
        assert server.end_of(peer)["reason"] == "handler-error", name
        assert honest.ask(b"still here") == b"still here"
    failed = server.having("handler failed")
    thrown = 2 if kind == "task" else 0  # asyncio's loop is left by two of them as well, and says so
    assert len(failed) == len(NAMES) + thrown
    assert all("traceback" in event for event in failed)
    assert not server.having("defect")


LIES = """
class Lies(bytes):
    def __len__(self):
        raise SystemExit

    __bytes__ = __iter__ = __len__


class Less(bytes):
    def __len__(self):
        return -1


class Row(tuple):
    def __iter__(self):
        raise SystemExit


def lie(frame):
    if isinstance(frame, tuple):
        return Row(frame) if frame[0] == 7 else frame
    return {b"lies": Lies, b"less": Less}.get(frame, bytes)(frame)


records = sockd.Service(framing=sockd.Record("!H"))
records.frame(lie)
lying_netstring = sockd.Service(framing=sockd.Netstring(max_bytes=1000))
lying_netstring.frame(lie)
lying_batch = sockd.Service()
lying_batch.frames(lambda lines: [lie(line) for line in lines])
"""


def test_a_reply_whose_class_lies_of_itself_is_its_bytes_or_a_failure_of_its_handler(serve, app):
    (app / "borders.py").write_text(APP + LIES)
    services = ["borders:lie", "borders:lying_batch", "borders:lying_netstring", "borders:records"]
    server = serve(config=listeners(*services))
    for service in services[:2]:
        honest, peer = server.connect(where(server, service)), server.connect(where(server, service))
        peer.send(b"lies\nless\nhonest\n")
        assert peer.lines(3) == [b"lies\n", b"less\n", b"honest\n"], service
        assert honest.ask(b"x") == b"x"
    peer = server.connect(where(server, services[2]))
    peer.send(b"4:lies,4:less,6:honest,")
    peer.half_close()
    assert peer.to_end() == b"4:lies,4:less,6:honest,"
    peer = server.connect(where(server, services[3]))
    peer.send(b"\0\1\0\7\0\2")
    assert peer.to_end() == b"\0\1"
    assert server.end_of(peer)["reason"] == "handler-error"
    assert not server.having("defect")


@pytest.mark.parametrize("kind", ["act", "blocking"])
@pytest.mark.parametrize("name", ["SystemExit", "StopIteration", "ValueError"])
def test_frames_before_it_are_answered_and_none_is_handed_out_twice(serve, app, kind, name):
    server = serve(config=listeners(f"borders:{kind}"))
    peer = server.connect()
    peer.send(b"one\ntwo\nraise %s\nthree\n" % name.encode())
    assert peer.to_end() == b"one\ntwo\n"
    assert server.connect().ask(b"calls") == b"1"


def test_in_other_framings_too(serve, app):
    server = serve(config=listeners("borders:netstring"))
    for name in NAMES:
        peer = server.connect()
        word = b"raise " + name.encode()
        peer.send(b"3:one,%d:%b,3:two," % (len(word), word))
        assert peer.to_end() == b"3:one,", name
        assert server.end_of(peer)["reason"] == "handler-error"


ENDS = {
    "eof_received": "handler-error",
    "pause_writing": "handler-error",
    "connection_lost": "eof",
    "timer": "handler-error",
}


@pytest.mark.parametrize("at", ENDS)
def test_at_every_callback_of_a_protocol(serve, app, at):
    server = serve(config=listeners("borders:At"))
    honest = server.connect()
    for number, name in enumerate(NAMES, 1):
        peer = server.connect()
        peer.send(f"{at} {name}\n".encode())
        if at in ("eof_received", "connection_lost"):
            assert peer.line() == b"armed\n"
            peer.half_close()
        peer.to_end()
        assert server.end_of(peer)["reason"] == ENDS[at], name
        server.wait_for("handler failed", count=number)
        assert honest.ask(b"echo") == b"echo"
    assert not server.having("defect")


TIME_LIMITS = """
import asyncio
import signal


class TooSlow(Exception):
    pass


def give_up(number, frame):
    raise TooSlow


def limited(line):  # and forgets that limit
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return line


async def stopping(reader, writer):
    async for line in reader:
        asyncio.get_running_loop().stop()
        writer.write(line)
"""


def test_a_time_limit_that_a_handler_has_left_behind_ends_nothing(serve, app):
    """fails without: the exception of its signal handler comes in the wait, and ends the daemon"""
    (app / "limits.py").write_text(TIME_LIMITS)
    server = serve(config=listeners("limits:limited", "upper"))
    honest = server.connect(where(server, "upper"))
    for count in range(1, 4):
        assert server.connect(where(server, "limits:limited")).ask(b"x") == b"x"
        server.wait_for("wait failed", count, error="TooSlow")
        assert honest.ask(b"still here") == b"STILL HERE"
    assert "give_up" in server.having("wait failed")[0]["traceback"]


def test_a_handler_cannot_stop_the_loop_of_all_services(serve, app):
    (app / "limits.py").write_text(TIME_LIMITS)
    server = serve(config=listeners("limits:stopping", "upper"))
    honest = server.connect(where(server, "upper"))
    peer = server.connect(where(server, "limits:stopping"))
    for _ in range(3):
        assert peer.ask(b"x") == b"x"
        assert honest.ask(b"still here") == b"STILL HERE"
    server.wait_for("loop.stop() of a handler ignored")
    assert len(server.having("loop.stop() of a handler ignored")) == 1  # in five seconds
    assert not server.having("stopping")


DEEDS = ["sys.stdout.close()", "sys.stdout = sys.stderr = None", "sys.stdout = sys.stderr = object()"]


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_daemon_whose_standard_output_is_closed_or_replaced_serves_and_stops_as_any(serve, app, deed, workers):
    """fails without: a traceback, and exit code 1 or 120; with workers none can be forked"""
    module = "import sys\n\ndef deed():\n    {0}\n\ndef act(line):\n    deed()\n    return line\n"
    (app / "muted.py").write_text(module.format(deed) + ("deed()\n" if workers > 1 else ""))
    server = serve(config=listeners("muted:act", extra=f"[daemon]\nworkers = {workers}\n"))
    assert server.connect().ask(b"x") == b"x"
    server.stop()
    assert not server.words


@pytest.mark.parametrize("name", NAMES)
def test_at_connection_made(serve, app, name):
    (app / "borders.py").write_text(APP + f"\nNAME = {name!r}\n")
    server = serve(config=listeners("borders:Made"))
    peer = server.connect()
    assert peer.to_end() == b""
    assert server.end_of(peer)["reason"] == "handler-error"
    assert server.connect().ask(b"next") == b"next"


def test_a_handler_that_calls_exit_by_argparse(serve, app):
    server = serve(config=listeners("borders:cmd"))
    peer = server.connect()
    assert peer.ask(b"7") == b"7"
    peer.send(b"no number\n")
    assert peer.to_end() == b""
    assert server.connect().ask(b"8") == b"8"


def test_with_workers_no_worker_is_lost(serve, app):
    server = serve(config=listeners("borders:act", extra="[daemon]\nworkers = 2\n"))
    for name in NAMES:
        peer = server.connect()
        peer.send(b"raise %s\n" % name.encode())
        assert peer.to_end() == b""
    assert server.connect().ask(b"next") == b"next"
    assert not server.having("worker ended")


def test_datagrams(serve, app, until):
    server = serve("udp://127.0.0.1:0=borders:act")
    (address,) = server.addresses
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(30)
        client.connect(("127.0.0.1", int(address.rpartition(":")[2])))
        for name in NAMES * 20:
            client.send(b"raise " + name.encode())
        client.send(b"calls")
        assert client.recv(100) == b"%d" % (20 * len(NAMES))
    until(lambda: len(server.having("handler failed")) >= len(NAMES))
    assert len(server.having("handler failed")) == len(NAMES)  # a line for each kind, and the rest is counted


# ---- whoever the peer is


UNIX_NAMES = {"unnamed": None, "path": "client", "abstract": b"\0client-%d" % os.getpid(), "autobound": ""}
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
A1 = (
    SIGNATURE
    + b"\x21\x31"
    + struct.pack("!H", 216)
    + b"/run/client".ljust(108, b"\0")
    + b"/run/server".ljust(108, b"\0")
)
UNIX_SERVICES = """
[service.program]
exec = ["/bin/sh", "-c", "read line; echo $line $UNIXREMOTEPATH"]
{as_root}
[service.relay]
relay = {{ to = ["{plain}"] }}
[service.introduced]
relay = {{ to = ["{introduced}"], proxy_header = "v2" }}
[service.socks]
socks = {{ users = "{directory}/users" }}
"""


@pytest.fixture
def unix_client(tmp_path):
    """Connects to a Unix socket as a client with a name of its own, or none."""
    opened = []

    def connect(path, kind):
        sock = socket.socket(socket.AF_UNIX)
        opened.append(sock)
        sock.settimeout(30)
        name = UNIX_NAMES[kind]
        if name is not None:
            sock.bind(str(tmp_path / name) if kind == "path" else name)
        sock.connect(path)
        return sock

    yield connect
    for sock in opened:
        sock.close()


@pytest.mark.parametrize("kind", UNIX_NAMES)
def test_a_unix_client_of_any_name_is_served_by_every_service(serve, app, unix_client, kind, tmp_path, certificates):
    """accept() names an abstract client by bytes, and an unnamed one by an empty text."""
    back = serve(config=listeners("upper", "upper") + 'proxy_protocol = { from = ["127.0.0.1"] }\n')
    plain, introduced = back.addresses
    users = subprocess.run(
        [Path(sys.executable).with_name("sockctl"), "password", "me"], input=b"x\nx\n", capture_output=True
    )
    (tmp_path / "users").write_bytes(users.stdout)
    (tmp_path / "users").chmod(0o600)
    names = ["upper", "borders:with_connection", "borders:coroutine", "program", "relay", "introduced", "socks"]
    config = UNIX_SERVICES.format(
        plain=plain, introduced=introduced, directory=tmp_path, as_root='user = "root"' if os.geteuid() == 0 else ""
    )
    for number, name in enumerate([*names, "tls", "proxied"]):
        more = (
            f'tls = {{ certificate = "{certificates.server.path}", key = "{certificates.server.key}" }}\n'
            if name == "tls"
            else ""
        )
        more += 'proxy_protocol = { from = ["unix:"] }\n' if name == "proxied" else ""
        service = "upper" if name in ("tls", "proxied") else name
        config += f'[[listen]]\naddress = "unix:{tmp_path}/{number}"\nservice = "{service}"\n{more}'
    (tmp_path / "second").mkdir()
    server = serve(config=config + f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n')
    for number, name in enumerate(names):
        client = unix_client(f"{tmp_path}/{number}", kind)
        if name == "socks":
            client.sendall(b"\x05\x01\x02")
            assert client.recv(10) == b"\x05\x02"
        else:
            client.sendall(b"abc\n")
            said = client.makefile("rb").readline()
            assert said.lower().startswith(b"abc"), (name, server.said())
        rows = Sockctl(tmp_path).ask("connections")
        schemes = {row["peer"].partition(":")[0] for row in rows}
        assert schemes == {"unix"} or (name == "program" and not rows), name  # that has ended, as a rule
        client.close()
        if kind == "path":
            (tmp_path / "client").unlink()
    assert not server.having("defect")


@pytest.mark.parametrize("service", ["upper", "borders:with_connection", "borders:coroutine"])
def test_a_unix_path_in_a_header_is_the_peer(serve, app, service):
    """On a TCP socket, which the kernel cannot be asked for such a name."""
    more = 'proxy_protocol = { from = ["127.0.0.1"] }\n'
    config = f'[daemon]\ncontrol = "{app}/control.sock"\n' + listeners(service).rstrip() + "\n" + more
    server = serve(config=config)
    peer = server.connect()
    peer.send(A1 + b"hi\n")
    assert peer.line().lower() == b"hi\n"
    (row,) = Sockctl(app).ask("connections")
    assert row["peer"] == "unix:/run/client"
    peer.half_close()
    assert peer.to_end() == b""
    closed = server.wait_for("closed")
    assert (closed["peer"], closed["via"], closed["reason"]) == ("unix:/run/client", peer.name, "eof")


@pytest.mark.parametrize(
    "networks", ['deny = ["::/0", "0.0.0.0/0"]', 'deny = ["127.0.0.0/8"]', 'allow = ["10.0.0.0/8"]']
)
def test_who_names_no_address_is_judged_by_that_of_the_proxy(serve, app, networks):
    server = serve(config=listeners("upper") + f'proxy_protocol = {{ from = ["127.0.0.1"] }}\n{networks}\n')
    peer = server.connect()
    peer.send(A1 + b"hi\n")
    assert peer.to_end() == b""
    assert server.wait_for("refused")["reason"] == "denied"


# ---- the control socket


QUESTIONS = [
    b"[" * 100_000,
    b'{"verb":' * 100_000,
    b'{"verb": "log-level", "level": []}',
    b'{"verb": "log-level", "level": {}}',
    b'{"verb": "close", "id": [1]}',
    b'{"verb": "drain", "listener": {"a": []}}',
    b'{"verb": ["status"]}',
    b'{"verb": "plan", "text": 1, "name": 2}',
    b"\xff\xfe",
    b"null",
]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_question_ends_the_daemon(serve, app, workers):
    daemon = f'[daemon]\ncontrol = "{app}/control.sock"\nworkers = {workers}\n'
    server = serve(config=listeners("upper", extra=daemon))
    for question in QUESTIONS:
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.settimeout(30)
            client.connect(f"{app}/control.sock")
            client.sendall(question + b"\n")
            answer = json.loads(client.makefile("rb").readline())
        assert (answer["ok"], answer["exit"]) == (False, 64), question[:50]
    assert Sockctl(app).ask("status")["defects"] == 0
    assert server.connect().ask(b"abc") == b"ABC"


# ---- what runs out


TIMERS = """
class Timers(sockd.LineProtocol):
    timer = None

    def line_received(self, line):
        if self.timer:
            self.timer.cancel()
        self.timer = self.transport.call_later(3600, print)
        if line == b"?":
            self.send_line(b"here")
"""


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_timers_that_are_set_anew_at_each_line_are_not_kept(serve, app):
    (app / "borders.py").write_text(APP + TIMERS)
    server = serve(config=listeners("borders:Timers"))
    peer = server.connect()
    assert peer.ask(b"?") == b"here"
    before = resident(server.process.pid)
    for _ in range(20):
        peer.send(b"\n" * 50_000)
        assert peer.ask(b"?") == b"here"
    assert resident(server.process.pid) - before < 20 << 20


@pytest.mark.skipif(
    os.geteuid() != 0, reason="a limit of processes holds for who is not root: a user to drop to is needed"
)
def test_without_a_thread_a_request_fails_and_nothing_else(serve, app):
    """RLIMIT_NPROC of a user that has no other process: no thread can be started."""
    app.chmod(0o755)
    daemon = "[daemon]\nthreads = 2\n"
    more = '[service.socks]\nsocks = { allow = ["127.0.0.1"] }\n'
    config = listeners("borders:act", "borders:blocking", "socks", extra=daemon) + more

    def limit():
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    server = serve(config=config, options=("--user", "65533", "--group", "65533"), preexec_fn=limit)
    honest = server.connect(where(server, "borders:act"))
    peer = server.connect(where(server, "borders:blocking"))
    peer.send(b"abc\n")
    with pytest.raises(ConnectionResetError):
        peer.to_end()
    assert server.end_of(peer)["reason"] == "limit"
    server.wait_for("no thread can be started")
    client = server.connect(where(server, "socks"))
    client.send(b"\x05\x01\x00\x05\x01\x00\x03\x09localhost\x00\x50")
    assert client.to_end()[:4] == b"\x05\x00\x05\x04"  # host unreachable
    assert honest.ask(b"abc") == b"abc"
    assert not server.having("defect")
