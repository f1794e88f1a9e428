# SPDX-License-Identifier: MIT
"""`sockctl trace` on a daemon that serves: both directions, every kind of handler, in every worker, over a reload and
an upgrade; redacted; limited; and gone with its client.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing

import pytest
from controlling import Sockctl, Trace
from watching import _until

APP = """
import sockd
def upper(line): return line.upper()
def both(line, connection): connection.reply(line); connection.reply(line)
class Upper:
    def connection_made(self, transport): self.transport = transport
    def line_received(self, line): self.transport.reply(line.upper())
async def talk(reader, writer):
    async for line in reader:
        writer.write(line.upper())
async def later(line): return line.upper()
blocking = sockd.Service(blocking=True)
blocking.frames(lambda lines: [line.upper() for line in lines])
batch = sockd.Service()
batch.frames(lambda lines: [line.upper() for line in lines])
"""


class Traced:
    """A daemon, its clients, and traces of it."""

    def __init__(self, server, sockctl, workers):
        self.server, self.sockctl, self.workers = server, sockctl, workers
        self.traces = []

    def trace(self, *words):
        one = Trace(self.sockctl, *words)
        self.traces.append(one)
        assert one.process.stderr.readline().startswith("sockctl: tracing")  # it is on
        return one

    def connect(self, listener=0):
        host, _, port = self.server.addresses[listener].removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)), timeout=20)


def ask(sock, text):
    sock.sendall(text)
    received = b""
    while received.count(b"\n") < text.count(b"\n"):
        received += sock.recv(65536)
    return received


@pytest.fixture
def traced(serve, tmp_path, request):
    made = []

    def make(*services, workers=1):
        (tmp_path / "traced_app.py").write_text(APP)
        sockctl = Sockctl(tmp_path)
        listeners = "".join(f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{one}"\n' for one in services)
        config = f'[daemon]\nworkers = {workers}\npath = "{tmp_path}"\ncontrol = "{sockctl.path}"\n{listeners}'
        made.append(Traced(serve(config=config), sockctl, workers))
        return made[0]

    yield make
    for one in made:
        for trace in one.traces:
            trace.process.kill()
            trace.process.wait()
            trace.process.stdout.close()
            trace.process.stderr.close()
        one.sockctl.run("stop", "--wait")


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    ("service", "received", "sent"),
    [
        ("upper", ["one", "two"], ["ONE\n", "TWO\n"]),
        ("traced_app:upper", ["one", "two"], ["ONE\n", "TWO\n"]),
        ("traced_app:both", ["one", "two"], ["one\n", "one\n", "two\n", "two\n"]),
        ("traced_app:Upper", ["one", "two"], ["ONE\n", "TWO\n"]),
        ("traced_app:later", ["one", "two"], ["ONE\n", "TWO\n"]),
        ("traced_app:talk", ["one\n", "two\n"], ["ONE\n", "TWO\n"]),
        ("traced_app:blocking", ["one", "two"], ["ONE\n", "TWO\n"]),
        ("traced_app:batch", ["one", "two"], ["ONE\n", "TWO\n"]),
    ],
)
def test_both_directions_of_every_kind(traced, service, workers, received, sent):
    house = traced(service, workers=workers)
    with closing(house.connect()) as before:  # open before the trace
        ask(before, b"before\n")
        trace = house.trace(service)
        for text in (b"one\n", b"two\n"):
            ask(before, text)
        shown = trace.wait_for(len(received) + len(sent))
        assert [data for direction, data in shown if direction == "in"] == received
        assert [data for direction, data in shown if direction == "out"] == sent
        (row,) = [
            one for one in house.sockctl.ask("connections") if one["peer"].endswith(f":{before.getsockname()[1]}")
        ]
        first = trace.lines[0]
        assert (first["peer"], first["connection"], first["service"]) == (row["peer"], row["id"], service)
        trace.end()
        assert ask(before, b"after\n")[:5].lower() == b"after"
        assert len(trace.frames()) == len(received) + len(sent)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_connection_or_a_network_alone(traced, workers):
    house = traced("upper", "traced_app:upper", workers=workers)
    with closing(house.connect(1)) as one, closing(house.connect(1)) as other:
        ask(one, b"x\n")
        ask(other, b"x\n")
        ids = {row["peer"].rpartition(":")[2]: row["id"] for row in house.sockctl.ask("connections")}
        trace = house.trace(ids[str(one.getsockname()[1])])
        network = house.trace("127.0.0.0/8")
        nobody = house.trace("192.0.2.0/24")
        ask(other, b"other\n")
        ask(one, b"mine\n")
        assert trace.wait_for(2) == [("in", "mine"), ("out", "MINE\n")]
        assert sorted(network.wait_for(4)) == sorted(
            [("in", "other"), ("out", "OTHER\n"), ("in", "mine"), ("out", "MINE\n")]
        )
        assert nobody.frames() == []


def test_sizes_alone_and_a_pattern(traced):
    house = traced("upper")
    sizes, redacted = house.trace("--sizes"), house.trace("--redact", "(?i)secret=[^ ]+", "--bytes", 40)
    with closing(house.connect()) as client:
        ask(client, b"user secret=" + b"x" * 500 + b" and more\n")
        assert redacted.wait_for(2) == [("in", "user *** and more"), ("out", "USER *** AND MORE\n")]
        _until(lambda: len(sizes.lines) == 2)
        assert [(one["bytes"], "data" in one) for one in sizes.lines] == [(521, False), (522, False)]


@pytest.mark.parametrize("workers", [1, 4])
def test_the_rate_is_kept_and_the_rest_counted(traced, workers):
    house = traced("traced_app:upper", workers=workers)
    trace = house.trace("--rate", 50)
    began = time.monotonic()
    with closing(house.connect()) as client:
        for _ in range(20):
            ask(client, b"line\n" * 5000)
    seconds = time.monotonic() - began
    _until(lambda: len(trace.frames()) + sum(one.get("left_out", 0) for one in trace.lines) >= 200_000)
    assert len(trace.frames()) + sum(one.get("left_out", 0) for one in trace.lines) == 200_000
    assert 2 <= len(trace.frames()) <= 50 * (seconds + 1) + 20
    assert {data for _, data in trace.frames()} <= {"line", "LINE\n"}


@pytest.mark.parametrize("service", ["upper", "traced_app:upper", "traced_app:Upper", "traced_app:batch"])
def test_one_connection_of_many_at_a_high_rate(traced, service):
    """What is past its rate is served with the others meanwhile, by the C core too, and counts all the same."""
    house = traced(service)
    pid = house.sockctl.ask("status")["pid"]
    with closing(house.connect()) as client, closing(house.connect()) as other:
        for sock in (client, other):
            ask(sock, b"before\n")
        own = f":{client.getsockname()[1]}"
        (id,) = [row["id"] for row in house.sockctl.ask("connections") if row["peer"].endswith(own)]
        memory = _rss(pid)
        trace = house.trace(id, "--rate", 20)
        for _ in range(400):
            assert ask(client, b"line\n" * 100).upper() == b"LINE\n" * 100
            ask(other, b"other\n")

        def counted():
            return len(trace.frames()) + sum(one.get("left_out", 0) for one in trace.lines)

        _until(lambda: counted() >= 40_000)
        if service == "traced_app:upper":  # each frame is one, and its reply another one
            _until(lambda: counted() >= 80_000)
            assert counted() == 80_000
        assert {one["connection"] for one in trace.lines if "connection" in one} == {id}
        assert _rss(pid) - memory < 8 << 20


@pytest.mark.parametrize("workers", [1, 4])
def test_over_a_reload_and_an_upgrade(traced, workers):
    house = traced("traced_app:upper", workers=workers)
    trace = house.trace()
    house.sockctl.ask("reload")

    def is_shown(text):
        before = len(trace.frames())
        with closing(house.connect()) as client:
            ask(client, text + b"\n")
            _until(lambda: True)
        return len(trace.frames()) > before

    _until(lambda: is_shown(b"reloaded"))
    assert ("in", "reloaded") in trace.frames()
    house.sockctl.ask("upgrade")
    _until(lambda: is_shown(b"upgraded"))
    assert ("in", "upgraded") in trace.frames()


def test_it_is_off_when_the_client_goes(traced):
    house = traced("upper")
    for _ in range(10):  # more than may be on at once
        trace = house.trace()
        with closing(house.connect()) as client:
            ask(client, b"a\n")
            trace.wait_for(2)
        trace.process.kill()
        trace.process.wait()
    assert len(house.server.having("control", verb="trace")) == 10


def test_a_client_that_does_not_read_loses_lines_and_nothing_else(traced):
    house = traced("traced_app:upper")
    with socket.socket(socket.AF_UNIX) as slow, closing(house.connect()) as client:
        slow.connect(str(house.sockctl.path))
        slow.sendall(b'{"verb": "trace", "subject": "", "rate": 10000, "bytes": 4096}\n')
        began = time.monotonic()
        line = b"x" * 4000 + b"\n"
        while time.monotonic() - began < 3:
            ask(client, line * 100)
        slow.settimeout(1)
        received = b""
        end = time.monotonic() + 20
        while b'"lost"' not in received and time.monotonic() < end:
            received += slow.recv(1 << 20)
            ask(client, line)
        assert b'"lost"' in received
        memory = int(house.sockctl.ask("status")["pid"])
        assert _rss(memory) < 150 << 20


def _rss(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_cannot_be_traced_is_said(traced, tmp_path):
    house = traced("upper")
    for words, text in [
        (["nosuch"], "nosuch: no service, connection id or network; services: upper"),
        (["--rate", "0"], "rate 0: must be 1 to 10000 frames a second"),
        (["--redact", "("], "is no regular expression"),
        (["--bytes", "5000"], "must be 1 to 4096; --sizes shows no content"),
    ]:
        done = house.sockctl.run("trace", *words)
        assert done.returncode == 64
        assert text in done.stderr
    config = tmp_path / "sockd.toml"
    config.write_text(
        config.read_text() + '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "cat"\n[service.cat]\n'
        'exec = ["/bin/cat"]\nuser = "root"\n'
    )
    house.sockctl.ask("reload")
    done = house.sockctl.run("trace", "cat")
    assert (done.returncode, "use tcpdump on its address" in done.stderr) == (64, True)


def test_frames_that_a_handler_gives_back_are_shown_once(traced, tmp_path):
    house = traced("traced_app:later", "traced_app:blocking")
    trace = house.trace("--rate", 10000)
    with closing(house.connect()) as client:
        ask(client, b"".join(b"%d\n" % number for number in range(300)))
    shown = trace.wait_for(600)
    received = [data for direction, data in shown if direction == "in"]
    assert sorted(received, key=int) == [str(number) for number in range(300)]
