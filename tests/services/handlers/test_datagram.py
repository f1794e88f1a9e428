# SPDX-License-Identifier: MIT
"""Datagrams for every kind of handler: the sender, where it arrived, later answers, lines, failures by the thousand."""

from __future__ import annotations

import socket
import subprocess
import textwrap

import pytest
from serving import LIMIT_S, STAY_ROOT, sockaddr_of

APP = """
import asyncio, sockd

def who(line, connection):
    host, port = connection.get_extra_info("sockname")[:2]
    return f"{line.decode()} from {connection.peer} at {host} {connection.get_extra_info('unknown', 5)}".encode()

def twice(line, connection):
    connection.reply(b"first " + line)
    connection.write(b"raw")
    return b"last"

def onward(line, connection):
    host, port = line.split()
    connection.sendto(b"for you", (host.decode(), int(port)))

def bye(line):
    raise sockd.Close(b"bye")

async def later(line):
    await asyncio.sleep(0.05 if line == b"slow" else 0.001)
    return b"later " + line

async def later_who(line, connection):
    await asyncio.sleep(0.001)
    return connection.peer.encode()

text = sockd.Service(text="utf-8")
@text.frame
def greet(line, connection):
    assert isinstance(line, str)
    connection.reply("ü".encode())
    return "grüße " + line

statsd = sockd.Service(datagram_lines=True)
@statsd.frame
def count(line):
    return line.upper() if line else None

batch = sockd.Service(datagram_lines=True)
@batch.frames
def count_all(lines):
    return [b"%d" % len(lines)] * len(lines)

async_lines = sockd.Service(datagram_lines=True)
@async_lines.frame
async def count_later(line):
    await asyncio.sleep(0)
    return line.upper()

class InLoop(asyncio.DatagramProtocol):
    made = 0
    def __init__(self, failures=0):
        asyncio.get_running_loop()
        InLoop.made += 1
        if InLoop.made <= failures:
            raise OSError("not yet")
    def connection_made(self, transport):
        self.transport = transport
        asyncio.get_running_loop().call_soon(transport.get_extra_info, "sockname")
    def datagram_received(self, data, addr):
        self.transport.sendto(b"%d " % InLoop.made + data, addr)

def late():
    return InLoop(failures=2)

calls = 0
def half(line):
    global calls
    calls += 1
    if line == b"boom":
        raise LookupError("half of them")
    return b"%d" % calls if line == b"?" else None
"""


class Asker:
    def __init__(self, address):
        family, kind, self.address = sockaddr_of(address)
        self.sock = socket.socket(family, kind)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(LIMIT_S)
        self.name = f"udp://127.0.0.1:{self.sock.getsockname()[1]}"

    def send(self, data):
        self.sock.sendto(data, self.address)

    def ask(self, data, count=1):
        self.send(data)
        answers = [self.sock.recv(65_536) for _ in range(count)]
        return answers[0] if count == 1 else answers


@pytest.fixture
def served(serve, tmp_path):
    askers = []

    def start(*names, host="127.0.0.1", keys="", listen=""):
        (tmp_path / "app.py").write_text(textwrap.dedent(APP))
        tables = "".join(
            f'[[listen]]\naddress = "udp://{host}:0"\nservice = "{name}"\n{listen}\n'
            f'[service.{name}]\nhandler = "app:{name}"\n{keys}\n'
            for name in names
        )
        server = serve(config=tables)
        where = {one["service"]: one["address"].replace("0.0.0.0", "127.0.0.1") for one in server.having("listening")}
        askers.extend(Asker(where[name]) for name in names)
        return server, *askers

    yield start
    for asker in askers:
        asker.sock.close()


def test_a_function_knows_the_sender_and_where_it_arrived(served):
    _, asker = served("who", host="0.0.0.0")
    assert asker.ask(b"x\n") == f"x from {asker.name} at 127.0.0.1 5\n".encode()


def test_it_answers_more_than_once(served):
    _, asker = served("twice")
    assert asker.ask(b"x\r\n", 3) == [b"first x\r\n", b"raw", b"last\r\n"]


def test_it_sends_to_others(served):
    _, asker = served("onward")
    other = Asker(f"udp://127.0.0.1:{asker.address[1]}")
    asker.send(b"127.0.0.1 %d" % other.sock.getsockname()[1])
    assert other.sock.recv(100) == b"for you"
    other.sock.close()


def test_close_is_an_answer_and_no_error(served):
    server, asker = served("bye")
    assert asker.ask(b"x\n") == b"bye"
    assert not server.having("handler failed")


def test_coroutines_answer_later_and_out_of_order(served):
    _, later, who = served("later", "later_who")
    later.send(b"slow")
    assert later.ask(b"quick", 2) == [b"later quick", b"later slow"]
    assert who.ask(b"x") == who.name.encode()


def test_a_stop_waits_for_answers(served):
    server, asker = served("later")
    asker.send(b"slow")
    assert asker.ask(b"quick") == b"later quick"
    server.signal()
    assert asker.sock.recv(100) == b"later slow"
    assert server.wait() == 0


def test_text(served):
    _, asker = served("text")
    assert asker.ask("ö".encode(), 2) == ["ü".encode(), "grüße ö".encode()]


@pytest.mark.parametrize("name", ["statsd", "async_lines"])
def test_each_line_is_a_frame(served, name):
    _, asker = served(name)
    assert asker.ask(b"a\nb\r\nc") == b"A\nB\nC\n"
    assert asker.ask(b"a\n") == b"A\n"


def test_a_batch_has_all_lines(served):
    _, asker = served("batch")
    assert asker.ask(b"a\nb\nc\n") == b"3\n3\n3\n"


def test_each_line_by_the_configuration(served):
    _, asker = served("later", keys="datagram_lines = true")
    assert asker.ask(b"a\nb") == b"later a\nlater b\n"


def test_a_datagram_protocol_is_not_for_streams(tmp_path, sockd_script):
    text = "import asyncio\nclass Only(asyncio.DatagramProtocol):\n    def datagram_received(self, data, addr): ...\n"
    (tmp_path / "app.py").write_text(text)
    command = [sockd_script, *STAY_ROOT, "--check", "--listen", "tcp://127.0.0.1:0=app:Only"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    assert "serves only datagrams" in done.stderr


def test_a_protocol_is_made_where_the_loop_runs(served):
    """Seen to fail: made before the loop ran, where get_running_loop() raises."""
    _, asker = served("InLoop")
    assert asker.ask(b"a") == b"1 a"
    assert asker.ask(b"b") == b"1 b"


def test_a_factory_that_has_failed_is_called_again(served):
    """Seen to fail: every datagram failed with 'NoneType' object has no attribute 'datagram_received'."""
    server, asker = served("late")
    asker.send(b"lost")
    assert asker.ask(b"a") == b"3 a"
    failure = server.wait_for("handler failed")
    assert "not yet" in str(failure)
    assert "InLoop.__init__" in failure["at"]


GROUPS = [("udp://0.0.0.0:0", "239.77.1.2", "198.51.100.1/24"), ("udp://[::]:0", "ff15::7712", "2001:db8:9::1/64")]


@pytest.mark.parametrize(("address", "group", "own"), GROUPS, ids=["4", "6"])
def test_multicast(serve, tmp_path, elsewhere, address, group, own):
    """In a network of its own, whose interface loops back what it sends to a group."""
    ip = ["ip", "-n", elsewhere.name]
    subprocess.run([*ip, "link", "add", "groups", "type", "veth", "peer", "name", "other"], check=True)
    for interface in ("groups", "other"):
        subprocess.run([*ip, "link", "set", interface, "up"], check=True)
    subprocess.run([*ip, "addr", "add", own, "dev", "groups", *(["nodad"] if ":" in own else [])], check=True)
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    listen = f'[[listen]]\naddress = "{address}"\nservice = "app:who"\nmulticast = ["{group}%groups"]\n'
    server = serve(config=listen + "ipv6_only = true\n", preexec_fn=elsewhere.enter)
    port = sockaddr_of(server.having("listening")[0]["address"])[2][1]
    with elsewhere.socket(own.partition("/")[0], socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (group, port))
        assert sock.recv(1000).startswith(b"x from udp://")


def test_what_is_no_multicast_group(tmp_path, sockd_script):
    for group, why in (
        ("127.0.0.1", "not a multicast address"),
        ("x", "not an address"),
        ("239.1.1.1%none", "no interface"),
    ):
        (tmp_path / "sockd.toml").write_text(
            f'[[listen]]\naddress = "udp://127.0.0.1:0"\nservice = "echo"\nmulticast = ["{group}"]\n'
        )
        command = [sockd_script, *STAY_ROOT, "-f", "-c", "sockd.toml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert done.returncode in (71, 78)
        assert why in done.stderr


def test_broadcast_is_received(served):
    """127.255.255.255 is the loopback network's own."""
    _, asker = served("later", host="0.0.0.0")
    asker.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    asker.sock.sendto(b"all", ("127.255.255.255", asker.address[1]))
    assert asker.sock.recv(100) == b"later all"


MANY = 100_000


def test_failures_by_the_thousand_are_few_lines(served):
    # With a budget, nobody who asks for more than five seconds is taken for a loop.
    server, asker = served("half", listen='datagram_budget = "1 GiB"')
    sent = 0
    for i in range(MANY):
        asker.send(b"boom" if i % 2 else b"fine")
        sent += 1
        if i % 50 == 49:  # an answer now and then, so that no datagram is dropped on the way
            sent += 1
            assert int(asker.ask(b"?")) == sent
    lines = [event for event in server.events if event["message"] == "handler failed"]
    assert sum(1 + event.get("held_back", 0) for event in lines) <= MANY // 2
    assert sum(len(str(event)) for event in server.events) < 10 * 1024
