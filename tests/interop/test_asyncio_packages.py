# SPDX-License-Identifier: MIT
"""Servers that were written for asyncio, from packages and as in its documentation, unmodified; their own clients.

aiosmtpd (RFC 5321, with STARTTLS) and wyoming are skipped where they are not installed.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import sys

import pytest
from serving import LIMIT_S, sockaddr_of

DOCUMENTATION = '''
import asyncio

async def handle_echo(reader, writer):
    data = await reader.read(100)
    message = data.decode()
    addr = writer.get_extra_info("peername")
    print(f"Received {message!r} from {addr!r}")
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()

class EchoServerProtocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.peername = transport.get_extra_info("peername")
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
        self.transport.close()

class EchoDatagrams:
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)

users = {}
async def chat(reader, writer):
    """Everybody hears what everybody says, by a queue each."""
    queue = users[writer] = asyncio.Queue()
    async def send():
        while True:
            writer.write(await queue.get())
            await writer.drain()
    task = asyncio.create_task(send())
    try:
        async for line in reader:
            for user, other in users.items():
                if user is not writer:
                    other.put_nowait(line)
    finally:
        del users[writer]
        task.cancel()

class Resp(asyncio.Protocol):
    """SET and GET of RESP arrays (redis.io/docs/reference/protocol-spec)."""
    store = {}
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        self.rest += data
        while (words := self.parse()) is not None:
            if words[0].upper() == b"SET":
                self.store[words[1]] = words[2]
                self.transport.write(b"+OK\\r\\n")
            else:
                value = self.store.get(words[1])
                self.transport.write(b"$-1\\r\\n" if value is None else b"$%d\\r\\n%b\\r\\n" % (len(value), value))
    def parse(self):
        head, found, rest = self.rest.partition(b"\\r\\n")
        if not found:
            return None
        words = []
        for _ in range(int(head[1:])):
            size, found, rest = rest.partition(b"\\r\\n")
            if not found or len(rest) < int(size[1:]) + 2:
                return None
            words.append(rest[: int(size[1:])])
            rest = rest[int(size[1:]) + 2 :]
        self.rest = rest
        return words

async def memcached(reader, writer):
    """set and get of the text protocol (protocol.txt)."""
    while line := await reader.readline():
        words = line.split()
        if words[0] == b"set":
            Resp.store[words[1]] = await reader.readexactly(int(words[4]))
            assert await reader.readuntil(b"\\r\\n") == b"\\r\\n"
            writer.write(b"STORED\\r\\n")
        elif (value := Resp.store.get(words[1])) is not None:
            writer.write(b"VALUE %b 0 %d\\r\\n%b\\r\\nEND\\r\\n" % (words[1], len(value), value))
        else:
            writer.write(b"END\\r\\n")
        await writer.drain()

async def http(reader, writer):
    """The head of a request, then as many bytes as it says (RFC 9112)."""
    while True:
        try:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
        except asyncio.IncompleteReadError:
            return
        lines = head.lower().split(b"\\r\\n")
        size = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        body = await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (size, body))
        await writer.drain()
'''

SMTP = """
import ssl
from aiosmtpd.smtp import SMTP

class Keep:
    async def handle_DATA(self, server, session, envelope):
        return f"250 kept {len(envelope.content)} for {len(envelope.rcpt_tos)}"

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)

def factory():
    return SMTP(Keep(), hostname="tests", tls_context=context)
"""

WYOMING = """
from wyoming.event import Event
from wyoming.server import AsyncEventHandler

class Echo(AsyncEventHandler):
    async def handle_event(self, event):
        await self.write_event(Event(type="echo", data={"of": event.type}, payload=event.payload))
        return True

async def serve(reader, writer):
    await Echo(reader, writer).run()
"""


@pytest.fixture
def served(serve, tmp_path):
    def start(source, *names, scheme="tcp"):
        (tmp_path / "app.py").write_text(source)
        server = serve(*[f"{scheme}://127.0.0.1:0=app:{name}" for name in names])
        return {one["service"][4:]: sockaddr_of(one["address"])[2] for one in server.having("listening")}

    return start


def test_samples_of_the_documentation(served):
    for address in served(DOCUMENTATION, "handle_echo", "EchoServerProtocol").values():
        with socket.create_connection(address, LIMIT_S) as sock:
            sock.sendall(b"hello")
            assert sock.makefile("rb").read() == b"hello"


def test_a_datagram_endpoint(served):
    (address,) = served(DOCUMENTATION, "EchoDatagrams", scheme="udp").values()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LIMIT_S)
        sock.sendto(b"hello", address)
        assert sock.recv(100) == b"hello"


def test_a_chat(served):
    (address,) = served(DOCUMENTATION, "chat").values()
    with socket.create_connection(address, LIMIT_S) as one, socket.create_connection(address, LIMIT_S) as two:
        ears = two.makefile("rb")
        two.sendall(b"here\n")
        assert one.makefile("rb").readline() == b"here\n"
        for _ in range(100):
            one.sendall(b"hello\n")
        assert ears.read(600) == b"hello\n" * 100


def test_resp_memcached_and_http(served):
    addresses = served(DOCUMENTATION, "Resp", "memcached", "http")
    with socket.create_connection(addresses["Resp"], LIMIT_S) as sock:
        big = b"v" * 200_000
        sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" % (len(big), big))
        assert sock.makefile("rb").read(5 + 9 + len(big) + 2) == b"+OK\r\n$%d\r\n%b\r\n" % (len(big), big)
    with socket.create_connection(addresses["memcached"], LIMIT_S) as sock:
        answers = sock.makefile("rb")
        for size in (0, 5, 70_000, 300_000):
            sock.sendall(b"set k 0 0 %d\r\n%b\r\nget k\r\n" % (size, b"m" * size))
            assert answers.readline() == b"STORED\r\n"
            assert answers.readline() == b"VALUE k 0 %d\r\n" % size
            assert answers.read(size + 7) == b"m" * size + b"\r\nEND\r\n"
    with socket.create_connection(addresses["http"], LIMIT_S) as sock:
        for size in (3, 100_000):
            sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (size, b"h" * size))
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
            answer = b""
            while len(answer) < len(head) + size:
                answer += sock.recv(65_536)
            assert answer == head + b"h" * size


def test_aiosmtpd(served, certificates):
    pytest.importorskip("aiosmtpd", reason="package aiosmtpd is missing")
    files = f"CERTIFICATE, KEY = {str(certificates.server.path)!r}, {str(certificates.server.key)!r}\n"
    (address,) = served(files + SMTP, "factory").values()
    mail = "Subject: hello\r\n\r\n" + "line\r\n" * 10_000
    for secured in (False, True):
        with smtplib.SMTP(*address, timeout=LIMIT_S) as client:
            if secured:
                client.starttls(context=ssl.create_default_context(cafile=certificates.ca))
            client.ehlo("tests")
            assert client.mail("a@example.org")[0] == client.rcpt("b@example.org")[0] == 250
            assert client.data(mail) == (250, b"kept %d for 1" % len(mail))
            assert client.noop()[0] == 250


def test_wyoming(served):
    pytest.importorskip("wyoming", reason="package wyoming is missing")
    from wyoming.client import AsyncTcpClient
    from wyoming.event import Event

    (address,) = served(WYOMING, "serve").values()

    async def talk():
        async with AsyncTcpClient(*address) as client:
            for size in (0, 100_000, 3):
                await client.write_event(Event(type="say", payload=b"w" * size))
                event = await client.read_event()
                assert (event.type, event.data) == ("echo", {"of": "say"})
                assert event.payload == (b"w" * size or None)

    asyncio.run(talk())
    assert sys.version_info >= (3, 11)
