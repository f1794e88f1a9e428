# SPDX-License-Identifier: MIT
"""inetd mode as a parent sees it: what is on 0 is served, and nothing else is ever said (FAQ II.18, IV.3).

Each test gives `sockd --inetd` its descriptors as inetd would, all three of them the same.
Seen failing, each once: with `detach_standard_streams` leaving 1 and 2 alone (nothing but the service's bytes),
with the flags not put back, with `name_peer` left out, with `detect_kind` taking every socket for a connection, with
the socket of a relay left blocking, with O_NONBLOCK set for every service.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

LIMIT_S = 20
APP = """
import os
import sys
import sockd

def upper(line):
    return line.upper()

def noisy(line):
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    os.write(1, b"to 1")
    os.write(2, b"to 2")
    return line.upper()

class Lines(sockd.LineProtocol):
    pass

def who(line, connection):
    return f"{connection.peer} {connection.get_extra_info('peerhost')} {connection.get_extra_info('peername')}".encode()

def fail(line):
    raise ValueError("not for the client")

def number(line):
    return str(os.getpid()).encode()

def many(line):
    return b"x" * int(line)
"""
KINDS = ("socketpair", "tcp")


@pytest.fixture
def inetd(tmp_path, sockd_script):
    """Start `sockd --inetd WORDS` with a descriptor on 0, 1 and 2; its log is a file."""
    (tmp_path / "app.py").write_text(APP)
    with ExitStack() as stack:

        def start(service, stdin, stdout=None, stderr=None, *, config="", environment=None, options=()):
            words = [sockd_script, *options, "--inetd", service]
            log = f'log = {{ to = "{tmp_path}/log", format = "json" }}'
            (tmp_path / "sockd.toml").write_text(f"[daemon]\n{log}\n{config}")
            words += ["-c", "sockd.toml"]
            process = subprocess.Popen(
                words,
                cwd=tmp_path,
                stdin=stdin,
                stdout=stdin if stdout is None else stdout,
                stderr=stdin if stderr is None else stderr,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def log(tmp_path):
    """The events in the log so far, by message."""

    def events(message=None):
        lines = (tmp_path / "log").read_text().splitlines()
        return [event for event in map(json.loads, lines) if message in (None, event["message"])]

    return events


@pytest.fixture
def sockets():
    with ExitStack() as stack:

        def pair(kind):
            """(the client's end, the one that inetd hands over)."""
            if kind == "socketpair":
                ends = socket.socketpair()
            else:
                with socket.create_server(("127.0.0.1", 0)) as server:
                    ends = socket.create_connection(server.getsockname()), server.accept()[0]
            for end in ends:
                stack.callback(end.close)
            ends[0].settimeout(LIMIT_S)
            return ends

        yield pair


@pytest.fixture
def listening():
    with ExitStack() as stack:

        def open_one(kind=socket.SOCK_STREAM, family=socket.AF_INET):
            sock = stack.enter_context(socket.socket(family, kind))
            sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")
            if kind == socket.SOCK_STREAM:
                sock.listen()
            return sock

        yield open_one


def read_all(sock):
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def ask(address, data):
    with socket.create_connection(address, LIMIT_S) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


# ---- nowait


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("service", ["upper", "app:upper"])
def test_one_connection_is_served_to_its_end(inetd, sockets, kind, service, log):
    peer, given = sockets(kind)
    process = inetd(service, given)
    peer.sendall(b"hello\n")
    assert peer.recv(100) == b"HELLO\n"
    assert os.get_blocking(given.fileno())  # the parent shares it
    given.close()
    peer.sendall(b"one\ntwo\nhalf")
    peer.shutdown(socket.SHUT_WR)
    assert read_all(peer) == b"ONE\nTWO\n"
    assert process.wait(LIMIT_S) == 0
    (closed,) = log("closed")
    assert (closed["reason"], closed["frames"], closed["service"]) == ("truncated", 3, service)
    assert [event["message"] for event in log() if event["level"] == "info"] == ["closed"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_but_the_services_bytes(inetd, sockets, kind):
    peer, given = sockets(kind)
    process = inetd("app:noisy", given)
    given.close()
    peer.sendall(b"hello\n")
    peer.shutdown(socket.SHUT_WR)
    assert read_all(peer) == b"HELLO\n"
    assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nosuch", ()), 64),
        (("nosuch:handler", ()), 78),
        (("upper", ("--no-such-option",)), 64),
        (("upper", ("--listen", "tcp://127.0.0.1:0=upper")), 64),
        (("upper", ("--user", "no-such-user")), 78),
    ],
)
def test_a_mistake_is_not_told_to_the_client(inetd, sockets, words, code):
    peer, given = sockets("tcp")
    service, options = words
    process = inetd(service, given, options=options)
    given.close()
    assert read_all(peer) == b""
    assert process.wait(LIMIT_S) == code


def test_a_handler_that_fails_is_not_told_to_the_client(inetd, sockets, log):
    peer, given = sockets("tcp")
    process = inetd("app:fail", given)
    given.close()
    peer.sendall(b"x\n")
    assert read_all(peer) == b""
    assert process.wait(LIMIT_S) == 0
    assert "not for the client" in log("handler failed")[0]["traceback"]


def test_deadlines_hold_as_for_every_connection(inetd, sockets, log):
    peer, given = sockets("tcp")
    config = '[service.short]\nbuiltin = "upper"\nidle_timeout = "300ms"\n'
    process = inetd("short", given, config=config)
    given.close()
    assert read_all(peer) == b""
    assert process.wait(LIMIT_S) == 0
    assert log("closed")[0]["reason"] == "idle-timeout"


def test_options_of_connections_are_set(inetd, sockets):
    peer, given = sockets("tcp")
    given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    inetd("upper", given)
    peer.sendall(b"x\n")
    assert peer.recv(10) == b"X\n"
    assert given.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert given.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert given.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 120


def test_term_ends_it_in_order(inetd, sockets, log):
    peer, given = sockets("tcp")
    process = inetd("upper", given)
    given.close()
    peer.sendall(b"x\n")
    assert peer.recv(10) == b"X\n"
    process.send_signal(signal.SIGTERM)
    assert read_all(peer) == b""
    peer.close()
    assert process.wait(LIMIT_S) == 0
    assert log("closed")[0]["reason"] == "shutdown"


# ---- the peer's name


UCSPI = {"PROTO": "TCP", "TCPREMOTEIP": "192.0.2.7", "TCPREMOTEPORT": "4711", "TCPREMOTEHOST": "client.example"}
TOLD = [
    (UCSPI, b"tcp://192.0.2.7:4711 client.example ('192.0.2.7', 4711)\n"),
    ({"TCP6REMOTEIP": "2001:db8::1", "TCP6REMOTEPORT": "1"}, b"tcp://[2001:db8::1]:1 None ('2001:db8::1', 1, 0, 0)\n"),
    ({"REMOTE_ADDR": "2001:db8::2", "REMOTE_PORT": "99"}, b"tcp://[2001:db8::2]:99 None ('2001:db8::2', 99, 0, 0)\n"),
    ({"REMOTE_HOST": "192.0.2.8"}, b"tcp://192.0.2.8:0 None ('192.0.2.8', 0)\n"),
    ({"REMOTE_ADDR": "192.0.2.9", "REMOTE_HOST": "a.example"}, b"tcp://192.0.2.9:0 a.example ('192.0.2.9', 0)\n"),
    ({"REMOTE_ADDR": "/run/x", "REMOTE_PORT": "-1"}, b"unix: None \n"),
    ({"TCPREMOTEIP": "192.0.2.7", "TCPREMOTEPORT": "70000"}, b"tcp://192.0.2.7:0 None ('192.0.2.7', 0)\n"),
    ({}, b"unix: None \n"),
]


@pytest.mark.parametrize(("environment", "answer"), TOLD)
def test_the_parent_names_the_peer_where_the_kernel_cannot(inetd, sockets, log, environment, answer):
    peer, given = sockets("socketpair")
    process = inetd("app:who", given, environment=environment)
    given.close()
    peer.sendall(b"?\n")
    peer.shutdown(socket.SHUT_WR)
    assert read_all(peer) == answer
    assert process.wait(LIMIT_S) == 0
    assert log("closed")[0]["peer"] == answer.split()[0].decode()


def test_the_kernels_word_goes_before_the_environments(inetd, sockets):
    peer, given = sockets("tcp")
    inetd("app:who", given, environment=UCSPI)
    peer.sendall(b"?\n")
    host, port = peer.getsockname()
    assert peer.recv(200) == f"tcp://{host}:{port} None ('{host}', {port})\n".encode()


def test_a_name_of_the_peer_that_the_kernel_knows_is_kept(inetd, sockets):
    peer, given = sockets("tcp")
    inetd("app:who", given, environment={**UCSPI, "TCPREMOTEIP": "127.0.0.1"})
    peer.sendall(b"?\n")
    assert b" client.example " in peer.recv(200)


# ---- wait


def test_a_listening_socket_is_served_until_nobody_comes(inetd, listening, log):
    given = listening()
    begin = time.monotonic()
    process = inetd("app:number", given, config='inetd_timeout = "600ms"\n')
    address = given.getsockname()
    first = ask(address, b"x\ny\n")
    assert first == f"{process.pid}\n".encode() * 2
    with socket.create_connection(address, LIMIT_S) as one, socket.create_connection(address, LIMIT_S) as two:
        for sock in (two, one):
            sock.sendall(b"x\n")
            assert sock.recv(100) == f"{process.pid}\n".encode()
        time.sleep(0.8)  # longer than the time-out: whoever is connected counts
        assert log("idle") == []
    assert process.wait(LIMIT_S) == 0
    assert time.monotonic() - begin > 0.6
    assert log("idle")[0]["served"] == 3
    assert given.getblocking()
    assert fcntl.fcntl(given, fcntl.F_GETFL) & os.O_NONBLOCK == 0


def test_who_comes_after_the_end_is_served_by_the_next_one(inetd, listening):
    given = listening()
    config = 'inetd_timeout = "200ms"\n'
    process = inetd("app:number", given, config=config)
    assert process.wait(LIMIT_S) == 0
    with socket.create_connection(given.getsockname(), LIMIT_S) as sock:
        sock.sendall(b"x\n")
        assert select.select([given], [], [], LIMIT_S)[0]  # the parent sees it, and starts the next one
        again = inetd("app:number", given, config=config)
        assert sock.recv(100) == f"{again.pid}\n".encode()


@pytest.mark.parametrize("service", ["upper", "app:upper"])
def test_a_datagram_socket_is_served_until_nobody_comes(inetd, listening, log, service):
    given = listening(socket.SOCK_DGRAM)
    given.setblocking(True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(LIMIT_S)
        peer.sendto(b"before\n", given.getsockname())  # what made inetd start it
        process = inetd(service, given, config='inetd_timeout = "500ms"\n')
        assert peer.recv(100) == b"BEFORE\n"
        peer.sendto(b"again\n", given.getsockname())
        assert peer.recv(100) == b"AGAIN\n"
    assert process.wait(LIMIT_S) == 0
    assert log("idle")[0]["served"] == 2
    assert fcntl.fcntl(given, fcntl.F_GETFL) & os.O_NONBLOCK == 0


def test_a_service_without_datagrams_refuses_a_datagram_socket(inetd, listening, log):
    given = listening(socket.SOCK_DGRAM)
    process = inetd("app:Lines", given)
    assert process.wait(LIMIT_S) == 78
    assert "cannot answer datagrams" in log("not serving")[0]["error"]


def test_term_in_wait_mode_answers_whoever_is_in_the_queue(inetd, listening, log, until, tmp_path):
    given = listening()
    process = inetd("upper", given)
    until(lambda: (tmp_path / "log").exists() and log("listening"))
    with socket.create_connection(given.getsockname(), LIMIT_S) as sock:
        sock.sendall(b"hello\n")
        sock.shutdown(socket.SHUT_WR)
        process.send_signal(signal.SIGTERM)
        assert read_all(sock) == b"HELLO\n"
    assert process.wait(LIMIT_S) == 0


# ---- what is no socket (FAQ II.18)


def flags(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL)


@pytest.mark.parametrize("service", ["upper", "app:upper"])
def test_pipes(inetd, service):
    (source, to), (back, sink) = os.pipe(), os.pipe()
    before = flags(source), flags(sink)
    process = inetd(service, source, sink, subprocess.DEVNULL)
    os.write(to, b"hello\nworld\n")
    assert os.read(back, 100) == b"HELLO\nWORLD\n"
    assert (flags(source), flags(sink)) == before  # while it runs, for others have them too
    os.close(to)
    assert process.wait(LIMIT_S) == 0
    assert (flags(source), flags(sink)) == before
    os.close(sink)
    assert os.read(back, 100) == b""
    for fd in (source, back):
        os.close(fd)


def test_much_through_pipes_to_a_slow_reader(inetd):
    (source, to), (back, sink) = os.pipe(), os.pipe()
    process = inetd("upper", source, sink, subprocess.DEVNULL)
    os.close(source)
    os.close(sink)
    lines = b"".join(b"line number %d\n" % number for number in range(200_000))
    writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=to)
    os.close(to)
    got = []
    with writer, writer.stdin as feed:
        sent = 0
        os.set_blocking(feed.fileno(), False)
        while sent < len(lines):
            _, ready, _ = select.select([], [feed], [], 0.001)
            if ready:
                sent += os.write(feed.fileno(), lines[sent : sent + 65536])
            else:
                got.append(os.read(back, 4096))
        feed.close()
        while piece := os.read(back, 65536):
            got.append(piece)
    assert b"".join(got) == lines.upper()
    assert process.wait(LIMIT_S) == 0
    os.close(back)


def test_files(inetd, tmp_path):
    (tmp_path / "in").write_bytes(b"hello\n" * 50_000)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        assert inetd("upper", source, sink, subprocess.DEVNULL).wait(LIMIT_S) == 0
    assert (tmp_path / "out").read_bytes() == b"HELLO\n" * 50_000


def test_nothing_at_all(inetd, tmp_path):
    with open(tmp_path / "out", "wb") as sink:
        assert inetd("upper", subprocess.DEVNULL, sink, subprocess.DEVNULL).wait(LIMIT_S) == 0
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_standard_streams_that_are_closed(sockd_script, sockets, tmp_path, closed):
    peer, given = sockets("socketpair")
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", sockd_script, "--inetd", "upper"]
    with subprocess.Popen(words, stdin=given, stdout=given, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        given.close()
        peer.sendall(b"hi\n")
        peer.shutdown(socket.SHUT_WR)
        assert read_all(peer) == b"HI\n"
        assert process.wait(LIMIT_S) == 0


def test_a_terminal(inetd):
    master, slave = pty.openpty()
    raw = termios.tcgetattr(slave)
    raw[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, raw)
    before = flags(slave)
    process = inetd("upper", slave)
    os.write(master, b"hello\n")
    assert os.read(master, 100) == b"HELLO\r\n"  # onlcr of termios(3)
    assert flags(slave) == before
    os.write(master, b"\x04")  # Ctrl-D, the end of file of a terminal
    assert process.wait(LIMIT_S) == 0
    assert flags(slave) == before
    os.close(slave)
    os.close(master)


def test_an_output_that_nobody_reads_any_more_ends_it(inetd):
    (source, to), (back, sink) = os.pipe(), os.pipe()
    process = inetd("upper", source, sink, subprocess.DEVNULL)
    os.close(back)
    os.write(to, b"hello\n")
    assert process.wait(LIMIT_S) == 0
    for fd in (source, to, sink):
        os.close(fd)


def test_an_output_that_is_not_read_is_given_up(inetd, log):
    (source, to), (back, sink) = os.pipe(), os.pipe()
    config = '[service.slow]\nhandler = "app:many"\nwrite_timeout = "1s"\n'
    process = inetd("slow", source, sink, subprocess.DEVNULL, config=config)
    os.write(to, b"100000\n")
    os.close(to)
    assert process.wait(LIMIT_S) == 0
    assert log("closed")[0]["reason"] in ("eof", "write-stall")
    for fd in (source, back, sink):
        os.close(fd)


def test_the_service_may_end_first(inetd):
    (source, to), (back, sink) = os.pipe(), os.pipe()
    config = '[service.short]\nbuiltin = "upper"\nidle_timeout = "200ms"\n'
    process = inetd("short", source, sink, subprocess.DEVNULL, config=config)
    os.close(sink)
    assert os.read(back, 100) == b""
    assert process.wait(LIMIT_S) == 0
    for fd in (source, to, back):
        os.close(fd)


# ---- a program


def test_a_program_is_a_service_here_too(inetd, sockets, log):
    peer, given = sockets("socketpair")
    user = 'user = "root"' if os.geteuid() == 0 else ""
    script = "cat; echo $PROTO $TCPREMOTEIP $REMOTE_PORT; echo trouble >&2"
    config = f'[service.cat]\nexec = ["/bin/sh", "-c", "{script}"]\n{user}\n'
    process = inetd("cat", given, config=config, environment={"REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": "4711"})
    given.close()
    peer.sendall(b"hello\n")
    peer.shutdown(socket.SHUT_WR)
    assert read_all(peer) == b"hello\nTCP 192.0.2.7 4711\n"
    assert process.wait(LIMIT_S) == 0
    assert log("program ended")[0]["exit_code"] == 0
    assert log("program wrote to standard error")[0]["text"] == "trouble"


# ---- the log


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="to have a /dev/log of our own needs root and unshare"
)
def test_without_a_file_the_log_is_syslogs(sockd_script, sockets, tmp_path):
    directory = tempfile.mkdtemp(dir="/tmp")  # a short path, for sun_path has 108 bytes
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
            syslog.bind(f"{directory}/log")
            syslog.settimeout(LIMIT_S)
            mounts = f"""
                mount -t tmpfs none /mnt && touch /mnt/null /mnt/log &&
                mount --bind /dev/null /mnt/null && mount --bind {directory}/log /mnt/log &&
                mount --move /mnt /dev && exec "$@"
            """
            peer, given = sockets("tcp")
            words = ["unshare", "-m", "sh", "-c", mounts, "sh", sockd_script, "--inetd", "upper"]
            process = subprocess.Popen(words, stdin=given, stdout=given, stderr=given, cwd=tmp_path)
            given.close()
            peer.sendall(b"x\n")
            peer.shutdown(socket.SHUT_WR)
            assert read_all(peer) == b"X\n"
            assert process.wait(LIMIT_S) == 0
            lines = [syslog.recv(8192).decode() for _ in range(2)]
    finally:
        shutil.rmtree(directory)
    assert lines[0] == f"<28>sockd[{process.pid}]: serving as root; set [daemon] user to switch to another user"
    assert lines[1].startswith(f"<30>sockd[{process.pid}]: closed service=upper peer=tcp://127.0.0.1:")


def test_without_syslog_it_is_silent(sockd_script, sockets, tmp_path):
    if Path("/dev/log").exists():
        pytest.skip("this host has a syslog")
    peer, given = sockets("tcp")
    process = subprocess.Popen(
        [sockd_script, "--inetd", "upper"], stdin=given, stdout=given, stderr=given, cwd=tmp_path
    )
    given.close()
    peer.sendall(b"x\n")
    peer.shutdown(socket.SHUT_WR)
    assert read_all(peer) == b"X\n"
    assert process.wait(LIMIT_S) == 0


def test_a_terminal_is_told_what_is_wrong(sockd_script, tmp_path):
    master, slave = pty.openpty()
    done = subprocess.run(
        [sockd_script, "--inetd", "uper"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=slave,
        cwd=tmp_path,
    )
    os.close(slave)
    text = os.read(master, 1000).decode()
    os.close(master)
    assert done.returncode == 64
    assert 'did you mean "upper"?' in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_relay_and_a_socks_server(inetd, sockets, kind):
    """Both ways, whoever speaks first; what inetd hands over blocks, and does so no more."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(LIMIT_S)
        port = target.getsockname()[1]
        for service, table in (
            ("front", f'relay = {{ to = ["tcp://127.0.0.1:{port}"] }}'),
            ("proxy", 'socks = { allow = ["loopback"] }'),
        ):
            client, theirs = sockets(kind)
            inetd(service, theirs, config=f"[service.{service}]\n{table}\n")
            if service == "proxy":
                client.sendall(b"\5\1\0")
                assert client.recv(2, socket.MSG_WAITALL) == b"\5\0"
                client.sendall(b"\5\1\0\1\x7f\0\0\1" + port.to_bytes(2, "big"))
                assert client.recv(10, socket.MSG_WAITALL)[:2] == b"\5\0"
            with target.accept()[0] as other:
                other.sendall(b"first\n")
                assert client.recv(6, socket.MSG_WAITALL) == b"first\n"
                client.sendall(b"second\n")
                assert other.recv(7, socket.MSG_WAITALL) == b"second\n"
                assert not os.get_blocking(theirs.fileno())
