# SPDX-License-Identifier: MIT
# Seen failing against a daemon that closes at once when the peer has shut down (an answer that is leaving is lost), and
# one that throws away what it receives after its own shutdown().
"""II.6, shutdown(): half-close both ways; who sends and shuts down gets the whole answer."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading

import pytest

APP = """
import logging
import sockd

logger = logging.getLogger("app")

def function(line):
    return line

def with_connection(line, connection):
    return line

class Lines(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(line)

def big(line):
    return b"x" * 30_000_000

class Big(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(b"x" * 30_000_000)

class Raw(sockd.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

class AfterTheEnd(sockd.LineProtocol):
    "Answers when the peer has said everything, as sort(1) must."
    def connection_made(self, transport):
        super().connection_made(transport)
        self.lines = []
    def line_received(self, line):
        self.lines.append(line)
    def eof_received(self):
        for line in sorted(self.lines):
            self.send_line(line)
        self.transport.close()
        return True

class SaysFirst(sockd.LineProtocol):
    "Sends all it has, shuts down, and goes on listening."
    def connection_made(self, transport):
        super().connection_made(transport)
        self.transport.write(b"all I have to say\\n")
        self.transport.write_eof()
    def line_received(self, line):
        logger.info("heard", extra={"event": {"line": line.decode()}})
"""
ECHOES = ["echo", "app:function", "app:with_connection", "app:Lines", "app:Raw"]
LINES = b"".join(b"%d line of the request\n" % number for number in range(100_000))


def test_a_client_that_sends_and_shuts_down_gets_its_whole_answer(daemon, read_to_end):
    one = daemon(*(f"tcp://127.0.0.1:0={service}" for service in ECHOES), app=APP)
    for index in range(len(ECHOES)):
        sock = one.connect(index)
        sender = threading.Thread(target=send_and_shut_down, args=(sock, LINES))
        sender.start()
        assert read_to_end(sock) == LINES, ECHOES[index]
        sender.join()
        one.closed("eof", count=index + 1)


def send_and_shut_down(sock, data):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("handler", ["big", "Big"])
def test_an_end_of_the_request_while_its_answer_is_leaving(daemon, read_to_end, handler):
    """High water is past the answer, so the client's FIN is received in the middle of it."""
    toml = f"""
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "big"
    [service.big]
    handler = "app:{handler}"
    high_water = "100 MiB"
    """
    one = daemon(toml=toml, app=APP)
    sock = one.connect()
    send_and_shut_down(sock, b"go\n")
    assert len(read_to_end(sock)) == 30_000_001
    one.closed("eof")


def test_the_client_tool_shuts_down_and_reads_to_the_end(daemon, sockctl_script):
    services = ["upper", *ECHOES]
    one = daemon(*(f"tcp://127.0.0.1:0={service}" for service in services), app=APP)
    for service, address in zip(services, one.addresses, strict=True):
        done = subprocess.run([sockctl_script, "connect", address], input=LINES, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout == (LINES.upper() if service == "upper" else LINES), service
    one.closed("eof", count=len(services))


def test_netcat_shuts_down_too(daemon):
    """Option -N of openbsd's nc: shutdown(SHUT_WR) at the end of input."""
    if shutil.which("nc") is None or "-N" not in subprocess.run(["nc", "-h"], capture_output=True, text=True).stderr:
        pytest.skip("needs nc -N (netcat-openbsd)")
    one = daemon("tcp://127.0.0.1:0=app:AfterTheEnd", app=APP)
    words = ["nc", "-N", "127.0.0.1", str(one.port())]
    done = subprocess.run(words, input=b"c\na\nb\n", capture_output=True, timeout=30)
    assert done.stdout == b"a\nb\nc\n"


def test_an_answer_that_needs_the_end_of_the_request(daemon, read_to_end):
    one = daemon("tcp://127.0.0.1:0=app:AfterTheEnd", app=APP)
    sock = one.connect()
    sock.sendall(b"b\nc\na\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_to_end(sock) == b"a\nb\nc\n"
    one.closed("closed")


def test_a_service_that_shuts_down_goes_on_receiving(daemon, read_to_end):
    one = daemon("tcp://127.0.0.1:0=app:SaysFirst", app=APP)
    sock = one.connect()
    assert read_to_end(sock) == b"all I have to say\n"
    for number in range(3):
        sock.sendall(b"%d\n" % number)
        assert one.wait_for("heard", count=number + 1)["line"] == str(number)
    assert one.logged("closed") == []
    sock.close()
    one.closed("eof")


def test_a_half_closed_peer_costs_no_time(daemon, nothing_comes):
    """Its end of file stays readable for ever; nobody looks at it again."""
    app = APP + "\nclass Stays(sockd.Protocol):\n    def data_received(self, data): pass\n"
    app += "    def eof_received(self):\n        logger.info('end')\n        return True\n"
    one = daemon("tcp://127.0.0.1:0=app:Stays", app=app)
    socks = [one.connect() for _ in range(20)]
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
    one.wait_for("end", count=20)
    before = one.cpu_seconds()
    nothing_comes(socks[0], 1)
    assert one.cpu_seconds() - before <= 0.05
