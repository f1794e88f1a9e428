# SPDX-License-Identifier: MIT
"""sockd under the inetds that exist: xinetd, openbsd-inetd, inetutils-inetd, tcpserver, systemd-socket-activate, socat.

The packages of the inetds exclude each other, so they are unpacked, not installed (tests/interop/install); each
runs in the foreground on ports of its own, with the examples of packaging/inetd/ as its configuration.

Seen failing, each once: `upper` replaced by `echo` in the examples; detect_kind() taking every socket for a connection
(every wait); standard streams left where they are (the test of mistakes).
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from unpacked import program

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "packaging" / "inetd"
LIMIT_S = 30
INETDS = ("xinetd", "openbsd-inetd", "inetutils-inetd")


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class World:
    """Where sockd is started from: its configuration, its log, the ports."""

    def __init__(self, directory, sockd) -> None:
        self.directory = directory
        self.sockd = sockd
        self.ports = {"7007 tcp": free_port(), "7008 tcp": free_port(), "7007 udp": free_port(socket.SOCK_DGRAM)}
        self.config = directory / "sockd.toml"
        log = f'log = {{ to = "{directory}/log", format = "json" }}'
        self.config.write_text(f'[daemon]\ninetd_timeout = "1s"\n{log}\n')

    @property
    def words(self):
        return [self.sockd, "-c", str(self.config), "--inetd", "upper"]

    def events(self, message):
        lines = (self.directory / "log").read_text().splitlines() if (self.directory / "log").exists() else []
        return [event for event in map(json.loads, lines) if event["message"] == message]

    def inetd_conf(self):
        text = (EXAMPLES / "inetd.conf").read_text()
        text = re.sub(
            r"^(\d+)(\s+\w+\s+)(tcp|udp)",
            lambda m: f"127.0.0.1:{self.ports[f'{m[1]} {m[3]}']}{m[2]}{m[3]}",
            text,
            flags=re.M,
        )
        return self._with_our_words(text)

    def xinetd_conf(self):
        text = (EXAMPLES / "xinetd.d" / "sockd").read_text()
        pattern = r"(protocol\s+= )(\w+)(\s+port\s+= )(\d+)"
        text = re.sub(
            pattern, lambda m: f"{m[1]}{m[2]}{m[3]}{self.ports[f'{m[4]} {m[2]}']}\n    bind = 127.0.0.1", text
        )
        return self._with_our_words(text)

    def _with_our_words(self, text):
        text = text.replace("--inetd upper", f"-c {self.config} --inetd upper")
        return re.sub(r"\bnobody\b", getpass.getuser(), text).replace("/usr/local/bin/sockd", self.sockd)


@pytest.fixture
def world(tmp_path, sockd):
    return World(tmp_path, sockd)


@pytest.fixture
def background(tmp_path):
    """Start a program and end it, with what it started."""
    with ExitStack() as stack:

        def start(words, **options):
            output = stack.enter_context(open(tmp_path / "output", "ab"))
            environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=tmp_path,
                env=environment,
                **options,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        yield start


@pytest.fixture
def start_inetd(world, background, tmp_path):
    def start(name):
        if name == "xinetd":
            binary = program("xinetd", "xinetd")
            (tmp_path / "xinetd.conf").write_text(world.xinetd_conf())
            files = ["-filelog", tmp_path / "xinetd.log", "-f", tmp_path / "xinetd.conf", "-pidfile", tmp_path / "pid"]
            return background([binary, "-dontfork", *files])
        (tmp_path / "inetd.conf").write_text(world.inetd_conf())
        if name == "openbsd-inetd":
            return background([program("inetd", "openbsd-inetd"), "-i", tmp_path / "inetd.conf"])
        binary = program("inetutils-inetd", "inetutils-inetd")
        return background([binary, "-d", f"--pidfile={tmp_path}/pid", tmp_path / "inetd.conf"])

    return start


def connect(until, port, family=socket.AF_INET, host="127.0.0.1"):
    """Connect to who is starting up."""

    def attempt():
        sock = socket.socket(family)
        sock.settimeout(LIMIT_S)
        try:
            sock.connect((host, port))
        except OSError:
            sock.close()
            return None
        return sock

    return closing(until(attempt))


def transcript(sock):
    """The FAQ's: line by line, then what was sent before our end of file, and nothing else."""
    sock.sendall(b"Hello world!\n")
    assert sock.recv(100) == b"HELLO WORLD!\n"
    sock.sendall(b"one\r\ntwo\n")
    sock.shutdown(socket.SHUT_WR)
    got = b""
    while piece := sock.recv(65536):
        got += piece
    assert got == b"ONE\nTWO\n"


# ---- the inetds


@pytest.mark.parametrize("name", INETDS)
def test_tcp_nowait(start_inetd, world, until, name):
    start_inetd(name)
    port = world.ports["7007 tcp"]
    with connect(until, port) as first, connect(until, port) as second:
        transcript(second)
        transcript(first)
        peers = {"tcp://{}:{}".format(*sock.getsockname()) for sock in (first, second)}
    until(lambda: {event["peer"] for event in world.events("closed")} == peers)
    assert {event["reason"] for event in world.events("closed")} == {"eof"}


@pytest.mark.parametrize("name", INETDS)
def test_tcp_wait(start_inetd, world, until, name):
    start_inetd(name)
    port = world.ports["7008 tcp"]
    with connect(until, port) as first, connect(until, port) as second:
        transcript(second)
        transcript(first)
    until(lambda: len(world.events("idle")) == 1)
    assert (len(world.events("listening")), world.events("idle")[0]["served"]) == (1, 2)
    with connect(until, port) as third:  # inetd has the socket again, and starts the next one
        transcript(third)
    assert len(world.events("listening")) == 2
    until(lambda: len(world.events("idle")) == 2)


@pytest.mark.parametrize("name", INETDS)
def test_udp_wait(start_inetd, world, until, name):
    inetd = start_inetd(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)

        def ask():
            assert inetd.poll() is None
            try:
                sock.connect(("127.0.0.1", world.ports["7007 udp"]))
                sock.send(b"hello\n")  # refused while inetd is starting up
                return sock.recv(100)
            except OSError:
                return None

        assert until(ask, within=LIMIT_S) == b"HELLO\n"
        until(lambda: len(world.events("idle")) == 1, within=LIMIT_S)
        assert until(ask, within=LIMIT_S) == b"HELLO\n"
        assert len(world.events("listening")) == 2


@pytest.mark.parametrize("name", INETDS)
def test_a_mistake_in_the_service_is_not_told_to_the_client(start_inetd, world, until, name):
    world.config.write_text("[daemon]\nno_such_key = 1\n")
    start_inetd(name)
    with connect(until, world.ports["7007 tcp"]) as sock:
        assert sock.recv(100) == b""


# ---- tcpserver


@pytest.mark.parametrize("package", ["ucspi-tcp", "ucspi-tcp-ipv6"])
def test_tcpserver(world, background, until, package):
    words = (EXAMPLES / "tcpserver.run").read_text().splitlines()[-1].split()
    assert words[:2] == ["exec", "tcpserver"]
    port = free_port()
    options = words[2 : words.index("0")]
    background([program("tcpserver", package), *options, "127.0.0.1", str(port), *world.words])
    with connect(until, port) as sock:
        transcript(sock)
        name = "tcp://{}:{}".format(*sock.getsockname())
    assert until(lambda: world.events("closed"))[0]["peer"] == name


def test_tcpserver_over_ipv6(world, background, until, has_ipv6):
    if not has_ipv6:
        pytest.skip("this host has no IPv6")
    port = free_port()
    background([program("tcpserver", "ucspi-tcp-ipv6"), "-H", "-R", "::1", str(port), *world.words])
    with connect(until, port, socket.AF_INET6, "::1") as sock:
        transcript(sock)
        name = "tcp://[{}]:{}".format(*sock.getsockname()[:2])
    assert until(lambda: world.events("closed"))[0]["peer"] == name


def test_the_name_that_tcpserver_found_is_logged(world, background, until):
    port = free_port()
    background([program("tcpserver", "ucspi-tcp"), "-h", "-R", "-l", "here", "127.0.0.1", str(port), "/usr/bin/env",
                "TCPREMOTEHOST=client.example", *world.words])  # fmt: skip
    with connect(until, port) as sock:
        transcript(sock)
    assert until(lambda: world.events("closed"))[0]["name"] == "client.example"


# ---- systemd-socket-activate


def test_systemd_socket_activate_accept(world, background, until):
    port = free_port()
    binary = program("systemd-socket-activate", "systemd")
    background([binary, "-l", f"127.0.0.1:{port}", "--accept", "--inetd", *world.words])
    with connect(until, port) as sock:
        transcript(sock)
    assert until(lambda: world.events("closed"))[0]["reason"] == "eof"


def test_systemd_socket_activate_listening(world, background, until):
    port = free_port()
    process = background(
        [program("systemd-socket-activate", "systemd"), "-l", f"127.0.0.1:{port}", "--inetd", *world.words]
    )
    with connect(until, port) as first, connect(until, port) as second:
        transcript(second)
        transcript(first)
    assert process.wait(LIMIT_S) == 0  # it has become sockd, which nobody needs any more
    assert world.events("idle")[0]["served"] == 2


def test_systemd_socket_activate_datagrams(world, background, until):
    port = free_port(socket.SOCK_DGRAM)
    words = [program("systemd-socket-activate", "systemd"), "-d", "-l", f"127.0.0.1:{port}", "--inetd", *world.words]
    process = background(words)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", port))

        def ask():
            try:
                sock.send(b"hello\n")
                return sock.recv(100)
            except OSError:
                return None

        assert until(ask, within=LIMIT_S) == b"HELLO\n"
    assert process.wait(LIMIT_S) == 0


# ---- socat


@pytest.mark.parametrize("how", ["", ",pipes", ",pty,rawer,stderr"])
def test_socat_exec(run, world, how):
    """By pipes and terminals socat passes no end on, and waits for all of -t, in which the answers have to come."""
    done = run(program("socat", "socat"), "-t4", "-", f"EXEC:{' '.join(world.words)}{how}", input=b"hello\nworld\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HELLO\nWORLD\n", b"")


def test_socat_listening_with_the_socket_itself(world, background, until):
    port = free_port()
    listen = f"TCP4-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
    background([program("socat", "socat"), listen, f"EXEC:{' '.join(world.words)},nofork"])
    with connect(until, port) as sock:
        transcript(sock)
        name = "tcp://{}:{}".format(*sock.getsockname())
    until(lambda: name in [event["peer"] for event in world.events("closed")])


# ---- a shell


def test_a_shells_pipe(run, world):
    done = run("sh", "-c", f"echo hi | {' '.join(world.words)}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"HI\n", b"")
