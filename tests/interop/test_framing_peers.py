# SPDX-License-Identifier: MIT
"""What other implementations write, cut by ReceiveBuffer; what SendBuffer writes, cut by them.

Packages: bsdutils (logger), erlang-base (erl); Twisted comes with the test dependencies.
"""

import os
import shutil
import socket
import subprocess
import threading

import pytest

from sockd.buffer import Line, Netstring, OctetCount, Prefix, ReceiveBuffer, encode_all

LIMIT_S = 30
MAX_BYTES = 100_000
PAYLOADS = [b"", b"a", b"\0\n\r\xff" * 10, b"x" * 255]
LARGE = [b"y" * 256, b"z" * 65_535]
SPLIT_BYTES = 7


def cut(framing, stream):
    """The frames of a stream that comes in small pieces."""
    buffer = ReceiveBuffer(framing)
    frames = []
    for start in range(0, len(stream), SPLIT_BYTES):
        buffer.feed(stream[start : start + SPLIT_BYTES])
        frames += buffer
    buffer.eof()
    return frames


# ---- Twisted

TWISTED = {
    "NetstringReceiver": (Netstring(MAX_BYTES), PAYLOADS + LARGE),
    "Int8StringReceiver": (Prefix(MAX_BYTES, 1), PAYLOADS),
    "Int16StringReceiver": (Prefix(MAX_BYTES, 2), PAYLOADS + LARGE),
    "Int32StringReceiver": (Prefix(MAX_BYTES, 4), PAYLOADS + LARGE),
    "LineReceiver": (Line(MAX_BYTES, b"\r\n"), [b"", b"a", b"b" * 16_000]),
}


@pytest.fixture
def twisted():
    basic = pytest.importorskip("twisted.protocols.basic", reason="Twisted is not installed")
    testing = pytest.importorskip("twisted.internet.testing", reason="this Twisted has no twisted.internet.testing")

    def make(name):
        """Return a protocol of that name, connected to a transport that keeps what is written."""
        protocol = getattr(basic, name)()
        protocol.MAX_LENGTH = MAX_BYTES
        transport = testing.StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    return make


@pytest.mark.parametrize("name", list(TWISTED))
def test_twisted_writes(twisted, name):
    framing, payloads = TWISTED[name]
    protocol, transport = twisted(name)
    for payload in payloads:
        (protocol.sendLine if name == "LineReceiver" else protocol.sendString)(payload)
    assert cut(framing, transport.value()) == payloads
    assert transport.value() == encode_all(framing, payloads)


@pytest.mark.parametrize("name", list(TWISTED))
def test_twisted_reads(twisted, name):
    framing, payloads = TWISTED[name]
    protocol, transport = twisted(name)
    got = []
    setattr(protocol, "lineReceived" if name == "LineReceiver" else "stringReceived", got.append)
    stream = encode_all(framing, payloads)
    for start in range(0, len(stream), SPLIT_BYTES):
        protocol.dataReceived(stream[start : start + SPLIT_BYTES])
    assert got == payloads
    assert not transport.disconnecting


# ---- logger(1) of util-linux


def received_while(command):
    """What a command sends to the port that it is given in place of "PORT"."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)
        port = str(listener.getsockname()[1])
        with subprocess.Popen([word.replace("PORT", port) for word in command], stdin=subprocess.DEVNULL) as process:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(LIMIT_S)
                stream = b""
                while data := connection.recv(65536):
                    stream += data
            assert process.wait(LIMIT_S) == 0
    return stream


@pytest.mark.skipif(shutil.which("logger") is None, reason="logger (package bsdutils) is not installed")
@pytest.mark.parametrize(
    ("options", "framing"),
    [
        (["--octet-count"], OctetCount(MAX_BYTES)),
        (["--octet-count"], OctetCount(MAX_BYTES, mixed=True)),
        ([], OctetCount(MAX_BYTES, mixed=True)),
        ([], Line(MAX_BYTES)),
    ],
)
def test_logger_writes(tmp_path, options, framing):
    texts = [b"one", b"a longer one: 3 abc", b"7 begins with a digit", b"w" * 900]
    path = tmp_path / "texts"
    path.write_bytes(b"".join(text + b"\n" for text in texts))
    stream = received_while(["logger", "--tcp", *options, "-n", "127.0.0.1", "-P", "PORT", "-f", str(path)])
    frames = cut(framing, stream)
    assert [frame.startswith(b"<13>1 ") for frame in frames] == [True] * len(texts)
    assert [frame.endswith(b" " + text) for frame, text in zip(frames, texts, strict=True)] == [True] * len(texts)
    if options:
        assert encode_all(framing, frames) == stream


# ---- Erlang's inet driver

ERLANG = {
    "1": (Prefix(255, 1), PAYLOADS),
    "2": (Prefix(65_535, 2), PAYLOADS + LARGE),
    "4": (Prefix(MAX_BYTES, 4), PAYLOADS + LARGE),
    "line": (Line(MAX_BYTES), [b"", b"a", b"b" * 200]),
}

# Reads length packets of the given kind and sends each one back; a line comes with its LF.
ECHO = """
{ok, S} = gen_tcp:connect({127,0,0,1}, PORT, [binary, {packet, PACKET}, {active, false}, {buffer, 200000}]),
F = fun(F) -> case gen_tcp:recv(S, 0) of {ok, P} -> ok = gen_tcp:send(S, P), F(F); {error, closed} -> ok end end,
F(F), gen_tcp:close(S), halt(0).
"""


@pytest.mark.skipif(shutil.which("erl") is None, reason="erl (package erlang-base) is not installed")
@pytest.mark.parametrize("packet", list(ERLANG))
def test_erlang_reads_and_writes(packet, tmp_path):
    framing, payloads = ERLANG[packet]
    stream = encode_all(framing, payloads)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)
        program = ECHO.replace("PORT", str(listener.getsockname()[1])).replace("PACKET", packet)
        command = ["erl", "-noshell", "-noinput", "-eval", program]
        environment = {"HOME": str(tmp_path), "PATH": os.defpath, "LANG": "C.UTF-8"}
        with subprocess.Popen(command, env=environment) as process:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(LIMIT_S)
                sender = threading.Thread(target=send_all_and_end, args=(connection, stream))
                sender.start()
                buffer = ReceiveBuffer(framing)
                frames = []
                while buffer.receive_from(connection, 1000):
                    frames += buffer
                buffer.eof()
                sender.join()
            assert process.wait(LIMIT_S) == 0
    assert frames == payloads


def send_all_and_end(connection, stream):
    connection.sendall(stream)
    connection.shutdown(socket.SHUT_WR)
