# SPDX-License-Identifier: MIT
"""Unix sockets that keep packets apart (SOCK_SEQPACKET): a packet is a frame, for handlers of every kind."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from contextlib import suppress

import pytest
from controlling import Sockctl, Trace
from serving import STAY_ROOT
from watching import _until

APP = """
import asyncio, os, pathlib
import sockd

def plain(packet):
    if packet == b"close":
        raise sockd.Close(b"bye")
    return None if packet == b"-" else packet.upper()

def speaks(packet, connection):
    connection.write(b"1 " + packet)
    connection.write(b"")
    connection.write(b"2")
    return b""

async def later(packet):
    await asyncio.sleep(0)
    return packet[::-1]

class Framed:
    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"hello")
    def frame_received(self, packet):
        self.transport.reply(packet + b"!")
    def eof_received(self):
        self.transport.write(b"end")

class Asyncio(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, packet):
        self.transport.writelines([b"<", packet, b">"])

class Text(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(line.title())

class Reframed(Framed):
    def frame_received(self, packet):
        try:
            self.transport.set_framing(sockd.Line(10))
        except ValueError as error:
            self.transport.reply(str(error).encode())

def made():
    return Framed()

text = sockd.Service(text="utf-8")
text.frame(lambda packet: packet[:-1])
batch = sockd.Service()
batch.frames(lambda packets: [b"%d" % len(packet) for packet in packets])
joined = sockd.Service(blocking=True)
joined.frames(lambda packets: b"".join(packets))
short = sockd.Service(framing=sockd.Netstring(4))
short.frame(lambda packet: packet)
strict = sockd.Service(too_long="skip")
strict.frame(lambda packet: packet)
counted = sockd.Service(goodbye=b"so long")
counted.frame(lambda packet: b"%d %s" % (os.getpid(), packet))

@counted.startup
def begin():
    pathlib.Path("starts").open("a").write("x")

async def session(reader, writer):
    pass
"""


class Peer(socket.socket):
    """A client."""

    def __init__(self, path):
        super().__init__(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.settimeout(20)
        self.connect(str(path))

    def ask(self, packet):
        self.send(packet)
        return self.recv(1 << 20)


@pytest.fixture
def packets(serve, tmp_path):
    """Serve each service at a socket of its name: `packets("plain")`."""
    (tmp_path / "app.py").write_text(APP)
    sockctl = Sockctl(tmp_path)

    def start(*services, daemon="", service="", more=""):
        text = f'[daemon]\ncontrol = "{sockctl.path}"\n{daemon}\n{more}\n'
        for name in services:
            target = name if name in ("echo", "upper", "discard", "daytime") else f"app:{name}"
            text += f'[[listen]]\naddress = "unixpacket:{tmp_path}/{name}"\nservice = "{name}"\n'
            text += f"[service.{name}]\n" + (f'builtin = "{target}"\n' if target == name else f'handler = "{target}"\n')
            text += service
        return serve(config=text), sockctl, lambda name: Peer(tmp_path / name)

    return start


def test_a_packet_is_a_frame_for_every_kind_of_handler(packets):
    names = ("plain", "speaks", "later", "Framed", "made", "Asyncio", "Text", "Reframed", "text", "batch", "joined")
    server, _, connect = packets(*names, "echo", "upper", "discard", "daytime")
    for name, said, answers in (
        ("plain", [b"ab", b"c\n", b"-", b"", b"x" * 65536], [b"AB", b"C\n", b"", b"X" * 65536]),
        ("speaks", [b"ab", b""], [b"1 ab", b"2", b"", b"1 ", b"2", b""]),
        ("later", [b"abc", b""], [b"cba", b""]),
        ("Framed", [b"a", b""], [b"hello", b"a!", b"!"]),
        ("made", [b"a", b""], [b"hello", b"a!", b"!"]),
        ("Asyncio", [b"ab\ncd"], [b"<", b"ab\ncd", b">"]),
        (
            "Reframed",
            [b"x"],
            [b"hello", b"Line(max_bytes=10, ending=b'\\n'): each packet of this connection is a frame"],
        ),
        ("text", ["äö".encode()], ["ä".encode()]),
        ("batch", [b"abc", b""], [b"3", b"0"]),
        ("joined", [b"abc"], [b"abc"]),
        ("echo", [b"ab", b"", b"c" * 97], [b"ab", b"", b"c" * 97]),
        ("upper", [b"ab", b"c" * 97], [b"AB", b"C" * 97]),  # whose length would be a letter
    ):
        with connect(name) as peer:
            for packet in said:
                peer.send(packet)
            assert [peer.recv(1 << 20) for _ in answers] == answers, name
    with connect("Text") as peer:
        peer.send(b"one two")
        assert peer.recv(100) == b"One Two"
    with connect("discard") as peer:
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(10) == b""
    with connect("daytime") as peer:
        assert peer.recv(100).endswith(b"\r\n")
    server.wait_for("closed", service="discard", reason="eof", received=1)


def test_its_end_and_its_limits(packets):
    server, _, connect = packets("plain", "short", "Framed")
    with connect("plain") as peer:
        assert peer.ask(b"close") == b"bye"
        assert peer.recv(1) == b""
    with connect("short") as peer:
        assert peer.ask(b"abcd") == b"abcd"
        assert peer.ask(b"abcde") == b""
    server.wait_for("closed", service="short", reason="frame-too-long", frames=1)
    with connect("Framed") as peer:
        assert peer.recv(10) == b"hello"
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(10) == b"end"
        assert peer.recv(10) == b""
    server.wait_for("closed", service="Framed", reason="eof", received=0, sent=8)


def test_a_peer_that_does_not_read_is_held_back(packets):
    _, sockctl, connect = packets("plain", service='high_water = "8 KiB"\nmax_frame = "120 KiB"\n')
    with connect("plain") as peer:
        large = b"a" * 120_000
        assert peer.ask(large) == large.upper()
        peer.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while sent < 1000:
                peer.send(b"%06d" % sent + b"x" * 2000)
                sent += 1
        peer.settimeout(20)
        for number in range(sent):
            assert peer.recv(1 << 20) == b"%06d" % number + b"X" * 2000
        row = sockctl.ask("status")["services"]["plain"]
        assert (row["frames"], row["received"]) == (sent + 1, 120_000 + sent * 2006)
    assert 10 < sent < 1000


@pytest.mark.parametrize("workers", [1, 2])
def test_over_a_reload_and_an_upgrade_and_told_at_the_end(packets, workers, tmp_path):
    _, sockctl, connect = packets("counted", "Text", daemon=f"workers = {workers}")
    with connect("counted") as peer, connect("Text") as other:
        pid, said = peer.ask(b"a\n").split(b" ", 1)
        assert said == b"a\n"
        assert other.ask(b"x") == b"X"
        assert [row["service"] for row in sockctl.ask("connections")] == ["counted", "Text"]
        sockctl.ask("reload")
        assert peer.ask(b"b") == pid + b" b" or workers > 1
        sockctl.ask("upgrade")
        if workers == 1:
            assert peer.ask(b"")[: len(pid)] != pid  # it has moved
            assert other.ask(b"y") == b"Y"
        with connect("counted") as third:
            assert third.ask(b"c").endswith(b" c")
        sockctl.run("stop")
        assert peer.recv(100) == b"so long"
        assert peer.recv(100) == b""


def test_what_passes_is_shown_without_a_prefix(packets):
    _, sockctl, connect = packets("plain", "Asyncio", "echo", "batch")
    with (
        Trace(sockctl) as trace,
        connect("plain") as one,
        connect("Asyncio") as two,
        connect("echo") as three,
        connect("batch") as four,
    ):
        assert one.ask(b"ab") == b"AB"
        assert two.ask(b"cd") == b"<"
        assert three.ask(b"ef") == b"ef"
        assert four.ask(b"gh") == b"2"
        _until(lambda: ("out", "2") in trace.frames())
        shown = sorted(trace.frames())
        assert shown[:4] == [("in", "ab"), ("in", "cd"), ("in", "ef"), ("in", "gh")]
        assert shown[4:] == [("out", one) for one in ("2", "<", ">", "AB", "cd", "ef")]
        trace.end()


def test_a_service_has_streams_and_packets_and_starts_once(serve, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    places = [f"unix:{tmp_path}/stream", f"unixpacket:{tmp_path}/packets"]
    server = serve(config=f'[[listen]]\naddresses = {json.dumps(places)}\nservice = "app:counted"\n')
    with Peer(tmp_path / "packets") as peer, socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(20)
        stream.connect(f"{tmp_path}/stream")
        stream.sendall(b"a\nb\n")
        pid = peer.ask(b"a\nb").split()[0]
        assert stream.recv(100) == b"%s a\n%s b\n" % (pid, pid)
    assert (tmp_path / "starts").read_text() == "x"
    server.end()


@pytest.mark.skipif(shutil.which("socat") is None, reason="needs socat")
def test_socat_and_sockctl_connect(packets, tmp_path):
    _, sockctl, _ = packets("plain")
    command = ["socat", "-t5", "-", f"UNIX-CONNECT:{tmp_path}/plain,type=5"]
    assert subprocess.run(command, input=b"hello", capture_output=True, timeout=30, check=True).stdout == b"HELLO"
    assert sockctl.talk("connect", f"unixpacket:{tmp_path}/plain", said="x\n").stdout == "X\n"


@pytest.mark.parametrize(
    ("service", "more", "words"),
    [
        (
            "app:session",
            "",
            "service app:session cannot serve unixpacket; a function, a protocol class or a program can",
        ),
        ("metrics", "", "service metrics cannot serve unixpacket"),
        ("app:strict", "", "with too_long or unfinished: a packet comes whole; remove them, or write unix:"),
        (
            "r",
            '[service.r]\nhandler = "app:plain"\nframing = {type = "record", format = "!I"}\n',
            "framing record; unpack",
        ),
        ("app:plain", "tls", "applies to streams"),
    ],
)
def test_what_cannot_serve_packets_is_told(sockd_script, tmp_path, service, more, words):
    (tmp_path / "app.py").write_text(APP)
    text = f'[[listen]]\naddress = "unixpacket:{tmp_path}/s"\nservice = "{service}"\n'
    text += 'tls = { certificate = "/nowhere" }\n' if more == "tls" else more
    (tmp_path / "sockd.toml").write_text(text)
    command = [sockd_script, *STAY_ROOT, "--check", "-c", "sockd.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    assert words in done.stderr
    assert not os.path.exists(tmp_path / "s")
