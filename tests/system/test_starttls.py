# SPDX-License-Identifier: MIT
"""STARTTLS from outside: plain text up to the answer, nothing of it behind, and the same service encrypted.

Seen to fail: without the look at what is unread, what was sent behind STARTTLS is answered; with the descriptor
swapped before the output has left, the answer does not come; without the hold, a word written meanwhile is seen in
plain text.
"""

from __future__ import annotations

import signal
import socket
import ssl
import struct
from contextlib import ExitStack

import pytest
from watching import SOAK, _until

APP = """
import asyncio
import sockd

released = []

async def waits(line, connection):
    if line == b"release":
        for one in released:
            one.set_result(None)
    if line == b"STARTTLS":
        released.append(asyncio.get_running_loop().create_future())
        await released[-1]
    return answer(line, connection)

def answer(line, connection):
    if line == b"STARTTLS":
        connection.start_tls()
        return b"go ahead"
    is_secure = connection.get_extra_info("ssl_object") is not None
    return b"%s %s" % (b"secure" if is_secure else b"plain", line)

async def session(reader, writer):
    async for line in reader:
        if line == b"STARTTLS\\r\\n":
            writer.write(b"go ahead\\n")
            await writer.start_tls()
            writer.write(b"hello, " + writer.get_extra_info("cipher")[1].encode() + b"\\n")
        else:
            writer.write(b"plain " * (writer.get_extra_info("ssl_object") is None) + line)

class Raw(sockd.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        first, rest = data[:1], data[1:]
        if first == b"S":
            self.transport.write(b"go ahead\\n")
            self.transport.start_tls(self.secured, unread=rest)
        else:
            self.transport.write(data.upper())
    def secured(self):
        self.transport.write(b"welcome\\n")

class Later(sockd.LineProtocol):
    def line_received(self, line):
        self.transport.write(b"x" * {size} + b"go ahead\\n")
        self.transport.start_tls()
        self.transport.call_later(0, self.transport.write, b"secret\\n")  # due before this turn ends

class Leaves(sockd.LineProtocol):
    def line_received(self, line):
        self.transport.write(b"x" * {size} + b"go ahead\\n")
        self.transport.start_tls()
        self.transport.call_later(0.002, self.transport.close)

class Twice(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(b"go ahead")
        self.transport.start_tls(lambda: 1 / 0 if line == b"wrong" else self.again())
        try:
            self.transport.start_tls()
        except RuntimeError as error:
            self.error = str(error)
    def again(self):
        self.send_line(self.error.encode())
        try:
            self.transport.start_tls()
        except RuntimeError as error:
            self.send_line(str(error).encode())

class Finished(sockd.LineProtocol):
    def line_received(self, line):
        self.transport.write_eof()
        self.transport.start_tls()

class Paused(sockd.LineProtocol):
    def line_received(self, line):
        if line == b"STARTTLS":
            self.send_line(b"go ahead")
            self.transport.start_tls(self.secured)
            self.transport.pause_reading()
        else:
            self.send_line(line.upper())
    def secured(self):
        self.transport.call_later(0.1, self.go_on)
    def go_on(self):
        self.send_line(b"paused" if not self.transport.is_reading() else b"reading")
        self.transport.resume_reading()

class Ends(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(b"go ahead")
        self.transport.start_tls()
        if line == b"close":
            self.transport.close()
        else:
            self.transport.abort()
"""
RESET = struct.pack("ii", 1, 0)
TIMES = 1000 if SOAK else 40


@pytest.fixture(params=["auto", "poll"])
def house(daemon, certificates, request):
    """A daemon whose listener's connections may ask for TLS: `house(service, tls="more", ...)`."""

    def start(service="app:answer", tls="", options="", size=0, address="tcp://127.0.0.1:0"):
        own = certificates.server
        toml = f"""
        [daemon]
        multiplexer = "{request.param}"
        {options}
        [[listen]]
        address = "{address}"
        service = "{service}"
        tls = {{ certificate = "{own.path}", key = "{own.key}", starttls = true {tls} }}
        """
        return daemon(toml=toml, app=APP.replace("{size}", str(size)))

    return start


@pytest.fixture
def secure(certificates):
    """Shake hands over a connection that is there: `secure(sock)`."""
    with ExitStack() as stack:

        def shake(sock):
            context = ssl.create_default_context(cafile=certificates.ca)
            return stack.enter_context(context.wrap_socket(sock, server_hostname="localhost"))

        yield shake


def ask(sock, line):
    sock.sendall(line)
    return read_line(sock)


def read_line(sock):
    accepted = b""
    while not accepted.endswith(b"\n"):
        piece = sock.recv(1)
        assert piece, accepted
        accepted += piece
    return accepted


def rest_of(sock):
    accepted = b""
    try:
        while piece := sock.recv(65536):
            accepted += piece
    except ConnectionResetError:
        pass
    return accepted


def test_a_function(house, secure):
    one = house()
    raw = one.connect()
    assert [ask(raw, b"a\n"), ask(raw, b"STARTTLS\n")] == [b"plain a\n", b"go ahead\n"]
    sock = secure(raw)
    assert [ask(sock, b"b\n"), ask(sock, b"c\r\n")] == [b"secure b\n", b"secure c\n"]
    assert ask(one.connect(), b"d\n") == b"plain d\n"
    sock.unwrap().close()
    assert one.closed("eof")["frames"] == 4


def test_a_coroutine(house, secure):
    one = house("app:session")
    raw = one.connect()
    assert ask(raw, b"a\n") == b"plain a\n"
    assert ask(raw, b"STARTTLS\r\n") == b"go ahead\n"
    sock = secure(raw)
    assert read_line(sock) == b"hello, TLSv1.3\n"
    assert ask(sock, b"b\n") == b"b\n"


def test_a_class_of_bytes_speaks_first(house, secure):
    raw = house("app:Raw").connect()
    assert ask(raw, b"S") == b"go ahead\n"
    sock = secure(raw)
    assert read_line(sock) == b"welcome\n"
    assert ask(sock, b"b\n") == b"B\n"


@pytest.mark.parametrize("service", ["app:answer", "app:session", "app:Raw"])
@pytest.mark.parametrize("more", [b"injected\n", b"inj"])
def test_what_came_before_is_never_served(house, service, more):
    """The line that asks, and in the same segment one that an attacker has put behind it."""
    one = house(service)
    raw = one.connect()
    raw.sendall((b"S" if service == "app:Raw" else b"STARTTLS\r\n") + more)
    assert rest_of(raw) in (b"", b"go ahead\n")
    assert one.closed("refused")
    assert "sent data before it had the reply" in one.wait_for("no TLS")["why"]


@pytest.mark.parametrize("more", [b"injected\n", b"inj"])
def test_what_comes_while_it_is_answered_is_never_served(house, more):
    one = house("app:waits")
    raw, other = one.connect(), one.connect()
    raw.sendall(b"STARTTLS\n")
    assert ask(one.connect(), b"x\n") == b"plain x\n"
    raw.sendall(more)
    assert ask(other, b"release\n") == b"plain release\n"
    assert rest_of(raw) in (b"", b"go ahead\n")
    assert one.closed("refused")
    assert one.wait_for("no TLS")


def test_what_comes_before_the_handshake_is_none(house):
    one = house()
    raw = one.connect()
    assert ask(raw, b"STARTTLS\n") == b"go ahead\n"
    raw.sendall(b"injected\n")
    assert b"injected" not in rest_of(raw)
    assert one.closed("refused")
    assert one.wait_for("no TLS")


def test_half_handshakes(house, secure, name_of):
    one = house(tls=', handshake_timeout = "300ms"')
    silent = one.connect()
    assert ask(silent, b"STARTTLS\n") == b"go ahead\n"
    silent_name = name_of(silent)
    for _ in range(TIMES):
        raw = one.connect()
        assert ask(raw, b"STARTTLS\n") == b"go ahead\n"
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        raw.close()
    assert rest_of(silent) == b""
    raw = one.connect()
    assert ask(raw, b"STARTTLS\n") == b"go ahead\n"
    assert ask(secure(raw), b"x\n") == b"secure x\n"
    assert one.closed("refused", peer=silent_name)


def test_a_slow_handshake_has_its_own_time(house, secure):
    """The service hears nothing meanwhile, so that its deadlines are none of the client's; then they begin."""
    one = house("slow", options='[service.slow]\nhandler = "app:answer"\nidle_timeout = "300ms"')
    raw = one.connect()
    assert ask(raw, b"STARTTLS\n") == b"go ahead\n"
    for _ in range(2):
        assert rest_of(one.connect()) == b""  # they come later, say nothing, and go
    sock = secure(raw)
    assert ask(sock, b"x\n") == b"secure x\n"
    assert rest_of(sock) == b""
    assert one.closed("idle-timeout", count=3)["frames"] == 2


@pytest.mark.parametrize("size", [0, 15_000_000])
def test_what_was_written_before_is_plain_and_nothing_behind(house, secure, size):
    raw = house("app:Later", size=size).connect()
    raw.sendall(b"STARTTLS\n")
    assert read_line_of(raw, size + 9) == b"x" * size + b"go ahead\n"
    assert read_line(secure(raw)) == b"secret\n"


def test_closed_while_its_output_is_waited_for(house):
    one = house("app:Leaves", size=15_000_000)
    with one.connect() as raw:
        raw.sendall(b"STARTTLS\n")
        assert read_line_of(raw, 15_000_009).endswith(b"xgo ahead\n")
        assert rest_of(raw) == b""
    assert one.closed("closed")


def read_line_of(sock, size):
    accepted = bytearray()
    while len(accepted) < size:
        accepted += sock.recv(size - len(accepted))
    return bytes(accepted)


def test_called_again(house, secure):
    raw = house("app:Twice").connect()
    assert ask(raw, b"x\n") == b"go ahead\n"
    sock = secure(raw)
    assert read_line(sock) == b"start_tls(): already called\n"
    assert read_line(sock) == b"start_tls(): the connection is already encrypted\n"


def test_after_write_eof(house):
    """Seen to fail: the handshake began, and the log had "Broken pipe" as the reason of its end."""
    one = house("app:Finished")
    raw = one.connect()
    raw.sendall(b"x\n")
    assert rest_of(raw) == b""
    assert one.closed("handler-error")
    assert "start_tls() after write_eof(): a handshake" in one.wait_for("handler failed")["traceback"]


def test_a_callback_that_raises(house, secure):
    one = house("app:Twice")
    raw = one.connect()
    assert ask(raw, b"wrong\n") == b"go ahead\n"
    sock = secure(raw)
    assert sock.recv(10) == b""
    sock.close()
    assert one.closed("handler-error")


def test_paused_meanwhile(house, secure):
    raw = house("app:Paused").connect()
    assert ask(raw, b"STARTTLS\n") == b"go ahead\n"
    sock = secure(raw)
    assert ask(sock, b"x\n") == b"paused\n"
    assert read_line(sock) == b"X\n"


@pytest.mark.parametrize(("line", "reason"), [(b"close\n", "closed"), (b"abort\n", "aborted")])
def test_ended_meanwhile(house, line, reason):
    one = house("app:Ends")
    raw = one.connect()
    raw.sendall(line)
    assert rest_of(raw) == (b"go ahead\n" if reason == "closed" else b"")
    raw.close()
    assert one.closed(reason)


POLITE = '\n[service.polite]\nhandler = "app:answer"\ngoodbye = "bye"'


def is_refused(place):
    try:
        socket.create_connection(place, 5).close()
    except OSError:
        return True
    return False


def in_the_middle(one):
    """Return a connection whose handshake is awaited."""
    raw = one.connect()
    assert ask(raw, b"STARTTLS\n") == b"go ahead\n"
    return raw


def test_a_stop_lets_a_handshake_finish(house, secure):
    """Seen to fail: reset, as if the connection were one of the listener's that is not served yet."""
    one = house("polite", options=POLITE)
    raw = in_the_middle(one)
    one.process.send_signal(signal.SIGTERM)
    one.wait_for("stopping")
    sock = secure(raw)
    assert rest_of(sock).strip() == b"bye"
    sock.close()
    assert one.closed("shutdown")["frames"] == 1
    assert one.process.wait(20) == 0


def test_a_stop_does_not_wait_for_ever(house):
    """A peer that never begins: half of the time, as for a frame that is never complete; it hears nothing in plain."""
    one = house("polite", options='stop_timeout = "600ms"' + POLITE)
    raw = in_the_middle(one)
    one.process.send_signal(signal.SIGTERM)
    assert rest_of(raw) == b""
    raw.close()
    assert "TLS handshake incomplete" in one.wait_for("connection closed before it finished")["why"]
    assert one.process.wait(20) == 0


def test_a_reload_that_removes_the_listener_lets_it_finish(house, secure, name_of):
    """Seen to fail: reset, one second behind the reload."""
    one = house()
    raw, place = in_the_middle(one), one.sockaddr()[2]
    name = name_of(raw)
    (one.directory / "sockd.toml").write_text(f'[[listen]]\naddress = "unix:{one.directory}/s"\nservice = "upper"\n')
    one.process.send_signal(signal.SIGHUP)
    one.wait_for("no longer listening")
    _until(lambda: is_refused(place))  # it is closed one second later
    assert rest_of(secure(raw)) == b""
    assert one.closed("shutdown", peer=name)["frames"] == 1


def test_over_a_unix_socket_the_peer_is_still_known(daemon, certificates, secure, tmp_path):
    own = certificates.server
    app = """
def answer(line, connection):
    if line == b"STARTTLS":
        connection.start_tls()
        return b"go ahead"
    return repr(connection.get_extra_info("peercred")).encode()
"""
    toml = f"""
    [[listen]]
    address = "unix:{tmp_path}/s"
    service = "app:answer"
    tls = {{ certificate = "{own.path}", key = "{own.key}", starttls = true }}
    """
    raw = daemon(toml=toml, app=app).connect()
    plain = ask(raw, b"x\n")
    assert ask(raw, b"STARTTLS\n") == b"go ahead\n"
    assert ask(secure(raw), b"x\n") == plain


def test_without_a_certificate(daemon):
    one = daemon("tcp://127.0.0.1:0=app:answer", app=APP)
    raw = one.connect()
    raw.sendall(b"STARTTLS\n")
    assert rest_of(raw) == b""
    assert "has no tls = { certificate = ..., starttls = true }" in one.wait_for("handler failed")["traceback"]


@pytest.mark.parametrize("service", ["upper", "app:plain"])
def test_services_that_cannot_ask(daemon, certificates, service):
    own = certificates.server
    toml = f"""
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "{service}"
    tls = {{ certificate = "{own.path}", key = "{own.key}", starttls = true }}
    """
    one = daemon(toml=toml, app="def plain(line): return line\n", listeners=0, may_die=True)
    assert one.process.wait(20) == 78
    one.kill()
    (line,) = one.logged("not serving")
    assert f"listen[0].tls.starttls: true: service {service} cannot call start_tls()" in line["error"]
