# SPDX-License-Identifier: MIT
"""Servers of packages that were written for asyncio, run by two lines of configuration; their own clients.

aiohttp (HTTP/1.1, WebSocket), asyncssh (SSH), telnetlib3 (TELNET) and aioquic (QUIC, a DatagramProtocol), each skipped
where it is not installed.  See test_asyncio_packages.py for the others.

Seen to fail: aioquic, with a datagram protocol made before the event loop ran.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl

import pytest
from serving import LIMIT_S, sockaddr_of

AIOHTTP = """
import hashlib
from aiohttp import WSMsgType, web

async def answer(request):
    if request.path == "/socket":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data[::-1])
        return socket
    digest = hashlib.sha256()
    async for piece in request.content.iter_any():
        digest.update(piece)
    return web.json_response({"peer": request.remote, "sum": digest.hexdigest()})

server = None

def factory():
    global server
    server = server or web.Server(answer)
    return server()
"""
ASYNCSSH = """
import asyncio, asyncssh
from asyncssh.connection import SSHServerConnection

class Login(asyncssh.SSHServer):
    def begin_auth(self, username):
        return True
    def password_auth_supported(self):
        return True
    def validate_password(self, username, password):
        return password == "secret"

def run(process):
    process.stdout.write(f"{process.get_extra_info('username')}: {process.command}")
    process.exit(3)

options = asyncssh.SSHServerConnectionOptions(
    server_factory=Login, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")], process_factory=run
)

def factory():
    return SSHServerConnection(asyncio.get_running_loop(), options)
"""
TELNETLIB3 = """
import telnetlib3

async def shell(reader, writer):
    writer.write("name? ")
    name = await reader.readline()
    writer.write(f"hello {name.strip()}\\r\\n")
    await writer.drain()
    writer.close()

def factory():
    return telnetlib3.TelnetServer(shell=shell, connect_maxwait=0.5)
"""
AIOQUIC = """
import asyncio
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration

configuration = QuicConfiguration(is_client=False, alpn_protocols=["back"])
configuration.load_cert_chain(CERTIFICATE, KEY)
tasks = set()

async def back(reader, writer):
    writer.write((await reader.read())[::-1])
    writer.write_eof()

def stream(reader, writer):
    tasks.add(asyncio.ensure_future(back(reader, writer)))

def factory():
    return QuicServer(configuration=configuration, stream_handler=stream)
"""


@pytest.fixture
def served(serve, tmp_path):
    """Serve `app:factory` as its two lines of configuration say; its host and port."""

    def start(source, scheme="tcp"):
        (tmp_path / "app.py").write_text(source)
        server = serve(config=f'[[listen]]\naddress = "{scheme}://127.0.0.1:0"\nservice = "app:factory"\n')
        return sockaddr_of(server.having("listening")[0]["address"])[2]

    return start


def run(talk):
    asyncio.run(asyncio.wait_for(talk(), LIMIT_S))


def test_aiohttp(served):
    aiohttp = pytest.importorskip("aiohttp", reason="package aiohttp is missing")
    host, port = served(AIOHTTP)

    async def body():
        for _ in range(100):
            yield b"x" * 10_000

    async def talk():
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            for _ in range(3):  # on one connection
                async with session.get("/") as response:
                    assert (await response.json())["peer"] == host
            async with session.post("/", data=body()) as response:
                assert (await response.json())["sum"] == hashlib.sha256(b"x" * 1_000_000).hexdigest()
            async with session.ws_connect("/socket") as socket:
                for number in range(100):
                    await socket.send_str(f"{number} hello")
                    assert await socket.receive_str() == f"{number} hello"[::-1]

    run(talk)


def test_asyncssh(served):
    asyncssh = pytest.importorskip("asyncssh", reason="package asyncssh is missing")
    host, port = served(ASYNCSSH)
    alone = {"known_hosts": None, "client_keys": None, "agent_path": None, "config": None}

    async def talk():
        async with asyncssh.connect(host, port, username="me", password="secret", **alone) as connection:
            for command in ("ls -l", "true"):  # each is a channel of its own
                done = await connection.run(command)
                assert (done.stdout, done.exit_status) == (f"me: {command}", 3)
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(host, port, username="me", password="wrong", **alone)

    run(talk)


def test_telnetlib3(served):
    telnetlib3 = pytest.importorskip("telnetlib3", reason="package telnetlib3 is missing")
    host, port = served(TELNETLIB3)

    async def talk():
        reader, writer = await telnetlib3.open_connection(host, port, connect_minwait=0.1, connect_maxwait=1)
        assert await reader.readexactly(6) == "name? "
        writer.write("world\r\n")
        assert await reader.read() == "hello world\r\n"

    run(talk)


def test_aioquic(served, certificates):
    pytest.importorskip("aioquic", reason="package aioquic is missing")
    from aioquic.asyncio import connect
    from aioquic.quic.configuration import QuicConfiguration

    files = f"CERTIFICATE, KEY = {str(certificates.server.path)!r}, {str(certificates.server.key)!r}\n"
    host, port = served(files + AIOQUIC, "udp")
    configuration = QuicConfiguration(alpn_protocols=["back"], verify_mode=ssl.CERT_NONE)

    async def talk():
        async with connect(host, port, configuration=configuration) as client:
            for size in (5, 200_000):
                reader, writer = await client.create_stream()
                writer.write(b"ab" * size)
                writer.write_eof()
                assert await reader.read() == b"ba" * size

    run(talk)
