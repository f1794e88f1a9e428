# SPDX-License-Identifier: MIT
"""On to a new process while connections are served: SIGUSR2, `sockctl upgrade`.

Seen to fail: with input not carried over, half a frame is lost; with paths owned before Go, a new process that fails
removes those of the old one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from controlling import Sockctl
from serving import Client
from watching import SOAK, _until

import sockd
from sockd.wire import proxy

APP = '''
import os
import time

import sockd

def pid(line):
    return b"%d %s" % (os.getpid(), line)

def whom(line, connection):
    if line == b"remember":
        connection.state = line
    return b"%d %s" % (os.getpid(), line)

def way(line, connection):
    proxied = connection.get_extra_info("proxied")
    return f"{connection.peer} {proxied.header.source} {proxied.header.tlvs}".encode()

batch = sockd.Service()

@batch.frames
def answer(lines):
    return [b"%d %s" % (os.getpid(), line) for line in lines]

slow = sockd.Service(blocking=True)

@slow.frame
def wait(line):
    if line == b"fifo":
        return open("fifo", "rb").read() + b" %d" % os.getpid()
    return b"%d %s" % (os.getpid(), line)

talk = sockd.Service()

@talk.session
async def talking(reader, writer):
    while line := await reader.readline():
        writer.write(b"%d %s" % (os.getpid(), line))

block = sockd.Service()

@block.frame
def big(line):
    return line * 4_000_000

class Counts(sockd.LineProtocol):
    """Counts what it was told, over any number of processes; goes on by netstrings when told to."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.lines = 0
        transport.reply(b"hello")

    def snapshot(self):
        return None if self.lines == 13 else {"lines": self.lines, "word": b"\\xff"}

    def restore(self, transport, state):
        self.transport = transport
        self.lines = state["lines"]
        if self.lines == 98:
            os._exit(5)
        if self.lines == 99:
            raise ValueError("not this one")
        assert state["word"] == b"\\xff"

    def line_received(self, line):
        self.lines += 1
        if line.isdigit():
            self.lines = int(line)
        if line == b"netstrings":
            self.transport.set_framing(sockd.Netstring(100))
        if line == b"pause":
            self.transport.pause_reading()
        self.transport.reply(b"%d %d %s" % (os.getpid(), self.lines, line))

    def eof_received(self):
        self.transport.reply(b"bye %d" % self.lines)
        return self.lines == 7

class Forgets(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(b"%d %s" % (os.getpid(), line))
'''


@pytest.fixture
def house(serve, tmp_path):
    """A daemon with a control socket and a listener for each service of APP, at a Unix path of its name."""

    class House(Sockctl):
        def write(self, listens, daemon=""):
            text = f'[daemon]\ncontrol = "{self.path}"\n{daemon}\n'
            for name in listens:
                service = "upper" if name == "upper" else f"mine:{name}"
                text += f'[[listen]]\naddress = "unix:{tmp_path}/{name}.sock"\nservice = "{service}"\n'
            new = tmp_path / "new"
            new.write_text(text)
            os.replace(new, tmp_path / "sockd.toml")

        def start(self, *listens, daemon="", options=(), more="", **how):
            (tmp_path / "mine.py").write_text(APP)
            self.write(listens, daemon)
            with open(tmp_path / "sockd.toml", "a") as file:
                file.write(more)
            self.server = serve(options=["-c", "sockd.toml", *options], **how)
            return self.server

        def connect(self, name):
            return self.server.connect(f"unix:{tmp_path}/{name}.sock")

        def pid(self):
            return self.ask("status")["pid"]

        def upgrade(self):
            """The number of the new process."""
            return self.ask("upgrade")["pid"]

        def fail(self):
            """Why there is none."""
            done = self.run("upgrade")
            assert done.stdout == ""
            return done.returncode, done.stderr

        def stop(self):
            """Stop whoever serves; all processes have ended then."""
            self.server._clients.close()
            self.run("stop")
            return self.server.wait()

    one = House(tmp_path)
    one.server = None
    yield one
    if one.server is not None:
        assert one.stop() == 0, one.server.said()
        assert not one.server.words, one.server.words
    elif one.path.exists():  # in the background, and the test has failed
        one.run("stop")


def asked(client, line):
    """(pid of who answers, the rest)."""
    pid, _, rest = client.ask(line).partition(b" ")
    return int(pid), rest


@pytest.mark.parametrize("multiplexer", ["auto", "poll"])
def test_connections_go_on_in_the_new_process(house, multiplexer):
    house.start("upper", "pid", "whom", "batch", "slow", options=["--multiplexer", multiplexer])
    first = house.pid()
    clients = {name: house.connect(name) for name in ("upper", "pid", "whom", "batch", "slow")}
    idle = [house.connect(name) for name in clients]
    for name, client in clients.items():
        client.send(b"whole\nha")
        assert client.line() == (b"WHOLE\n" if name == "upper" else b"%d whole\n" % first)
    for _ in range(2):
        pid = house.upgrade()
        assert pid != first
        for name, client in clients.items():
            client.send(b"lf\nha")
            assert client.line() == (b"HALF\n" if name == "upper" else b"%d half\n" % pid)
        assert asked(house.connect("pid"), b"new") == (pid, b"new")
    assert [asked(client, b"late") for client in idle[1:]] == [(pid, b"late")] * 4
    status = house.ask("status")
    assert status["pid"] == pid
    assert status["connections"] == 12
    assert [row["accepted"] for row in status["listeners"]] == [2, 4, 2, 2, 2]
    assert status["services"]["upper"]["frames"] == 3
    assert status["services"]["upper"]["accepted"] == 2
    _until(lambda: house.ask("status")["previous_processes"] == 0)
    _until(lambda: house.server.process.poll() == 0)


def test_by_signal(house):
    server = house.start("pid")
    client = house.connect("pid")
    first, _ = asked(client, b"a")
    server.signal(signal.SIGUSR2)
    server.wait_for("taken over")
    second, _ = asked(client, b"b")
    assert second == house.pid() != first


def test_output_that_was_not_taken_goes_along(house):
    house.start("block")
    client = house.connect("block")
    client.send(b"x\nnext")  # 4 MB wait in the daemon, and half a line behind them
    _until(lambda: house.ask("connections")[0]["output_pending_bytes"] > 1_000_000)
    house.upgrade()
    assert client.file.read(4_000_001) == b"x" * 4_000_000 + b"\n"
    client.half_close()
    assert client.to_end() == b""
    assert house.server.wait_for("closed")["reason"] == "truncated"


def test_handlers_take_their_state_along(house):
    house.start("Counts", daemon='stop_timeout = "200ms"')
    first, plain, framed, paused = house.pid(), *(house.connect("Counts") for _ in range(3))
    for client in (plain, framed, paused):
        assert client.line() == b"hello\n"
    assert plain.ask(b"a") == b"%d 1 a" % first
    framed.send(b"netstrings\n")
    answer = b"%d 1 netstrings" % first
    assert framed.file.read(len(answer) + 4) == b"%d:%s," % (len(answer), answer)
    paused.send(b"pause\nunread\n")
    assert paused.line() == b"%d 1 pause\n" % first
    framed.send(b"3:a")
    second = house.upgrade()
    assert plain.ask(b"b") == b"%d 2 b" % second  # and no second hello
    framed.send(b"bc,")
    answer = b"%d 2 abc" % second
    assert framed.file.read(len(answer) + 4) == b"%d:%s," % (len(answer), answer)
    assert plain.ask(b"7") == b"%d 7 7" % second
    plain.half_close()
    assert plain.line() == b"bye 7\n"
    house.upgrade()
    assert house.ask("status")["connections"] == 3  # one that has ended its side is still there
    paused.half_close()


def test_what_cannot_move_stays_until_it_has_ended(house, tmp_path):
    program = (
        '[[listen]]\naddress = "unix:{}/cat.sock"\nservice = "cat"\n[service.cat]\nexec = ["/bin/cat"]\nuser = "root"\n'
    )
    server = house.start("pid", "whom", "talk", "Counts", "Forgets", "slow", more=program.format(tmp_path))
    first = house.pid()
    stay = {name: house.connect(name) for name in ("whom", "talk", "Forgets", "cat")}
    for name, client in stay.items():
        word = b"remember" if name == "whom" else b"a"
        assert client.ask(word) == (b"a" if name == "cat" else b"%d %s" % (first, word))
    unwilling, refused = house.connect("Counts"), house.connect("Counts")
    for client, lines in ((unwilling, b"13"), (refused, b"99")):
        client.line()
        assert client.ask(lines) == b"%d %s %s" % (first, lines, lines)
    os.mkfifo(tmp_path / "fifo")
    at_work, moves = house.connect("slow"), house.connect("pid")
    at_work.send(b"fifo\n")
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)  # returns once the handler reads
    result = house.ask("upgrade")
    second = result["pid"]
    assert (result["moved"], result["stay"]) == (1, 7)
    assert asked(moves, b"b") == (second, b"b")
    os.write(writer, b"done")
    os.close(writer)
    assert at_work.line() == b"done %d\n" % first
    for name, client in stay.items():
        assert client.ask(b"b") == (b"b" if name == "cat" else b"%d b" % first)
    assert unwilling.ask(b"c") == b"%d 14 c" % first
    assert refused.ask(b"c") == b"%d 100 c" % first
    assert [e["traceback"].splitlines()[-1] for e in server.having("handler failed")] == ["ValueError: not this one"]
    assert house.ask("status")["previous_processes"] == 1
    assert psutil.Process(second).ppid() != first  # else a service manager would not learn of its end
    third = house.upgrade()
    _until(lambda: house.ask("status")["previous_processes"] == 1)  # the second had nothing to stay for
    for client in (*stay.values(), unwilling, refused, at_work):
        client.close()
    assert server.process.wait(30) == 0
    _until(lambda: house.ask("status")["previous_processes"] == 0)
    assert asked(moves, b"d") == (third, b"d")


def test_a_stop_ends_those_that_stayed_as_well(house):
    server = house.start("talk", daemon='stop_timeout = "200ms"')
    client = house.connect("talk")
    assert asked(client, b"a")[0] == server.process.pid
    house.upgrade()
    house.run("stop")
    assert server.process.wait(30) == 0
    assert client.to_end() == b""


BROKEN = {
    "configuration": (lambda house: (house.directory / "sockd.toml").write_text("[daemon"), 78, "sockd.toml"),
    "handler": (lambda house: (house.directory / "mine.py").write_text("1 / 0"), 78, "importing 'mine' failed at"),
    "killed": (
        lambda house: (house.directory / "mine.py").write_text("import os; os.kill(os.getpid(), 9)"),
        71,
        "signal 9",
    ),
    "hang": (lambda house: (house.directory / "mine.py").write_text("import time; time.sleep(99)"), 75, "within 0.7 s"),
    "address": (
        lambda house: (house.directory / "sockd.toml").write_text(
            (house.directory / "sockd.toml").read_text() + '[[listen]]\naddress = "unix:/no/s"\nservice = "upper"\n'
        ),
        71,
        "its directory does not exist",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_new_process_that_fails_changes_nothing(house, what):
    server = house.start("upper", "Counts", daemon='upgrade_timeout = "700ms"' if what == "hang" else "")
    pid, client, counts = house.pid(), house.connect("upper"), house.connect("Counts")
    client.send(b"ha")
    before = (house.directory / "sockd.toml").read_text()
    breaks, code, words = BROKEN[what]
    breaks(house)
    returned, said = house.fail()
    assert (returned, words in said) == (code, True), said
    assert words in server.having("upgrade failed, still serving")[-1]["error"]
    _until(lambda: not psutil.Process(pid).children(recursive=True))
    status = house.ask("status")
    assert status["pid"] == pid
    assert status["upgrade"]["ok"] is False
    assert words in status["upgrade"]["error"]
    assert client.ask(b"lf") == b"HALF"
    assert house.connect("upper").ask(b"new") == b"NEW"
    assert counts.line() == b"hello\n"
    (house.directory / "mine.py").write_text(APP)
    (house.directory / "sockd.toml").write_text(before.replace("700ms", "30s"))
    house.ask("reload")
    server.words.clear()  # what the new process said on standard error
    second = house.upgrade()
    assert counts.ask(b"a") == b"%d 1 a" % second


def test_a_new_process_that_gives_up_says_so_in_a_line_of_the_log(daemon, tmp_path):
    """log.format is JSON: fails with plain text between its lines"""
    control = tmp_path / "control.sock"
    toml = f'[daemon]\ncontrol = "{control}"\n[[listen]]\naddress = "unix:{tmp_path}/s"\nservice = "upper"\n'
    one = daemon(toml=toml)
    wrong = toml + '[[listen]]\naddress = "unix:/no/s"\nservice = "upper"\n'
    (one.directory / "sockd.toml").write_text(wrong)
    assert Sockctl(tmp_path).run("upgrade").returncode == 71
    assert "its directory does not exist" in one.wait_for("not serving")["error"]
    assert one.other == []


def test_a_new_process_that_dies_while_it_takes_over(house):
    """It has some of the connections then; the old one has them all, and has read no byte less."""
    house.start("upper", "Counts")
    pid, others, deadly = house.pid(), [house.connect("upper") for _ in range(200)], house.connect("Counts")
    deadly.line()
    assert deadly.ask(b"98") == b"%d 98 98" % pid
    for client in others:
        client.send(b"ha")
    returned, said = house.fail()
    assert (returned, "code 5" in said) == (71, True), said
    for client in others:
        client.send(b"lf\n")
    assert [client.line() for client in others] == [b"HALF\n"] * 200
    assert deadly.ask(b"1") == b"%d 1 1" % pid
    assert house.ask("status")["connections"] == 201
    assert house.ask("upgrade")["moved"] == 201


def test_a_directory_that_is_gone(house, tmp_path):
    """The program is started where it was started before."""
    house.start("upper")
    client = house.connect("upper")
    away = Sockctl(tmp_path.with_name("away"))
    tmp_path.rename(away.directory)
    try:
        done = away.run("upgrade")
        assert (done.returncode, f"cannot be started: {tmp_path}: No such file" in done.stderr) == (71, True), done
        assert client.ask(b"a") == b"A"
    finally:
        away.directory.rename(tmp_path)


def test_listeners_come_and_go(house):
    server = house.start("upper", "pid")
    kept, draining = house.connect("upper"), house.connect("pid")
    assert (kept.ask(b"a"), asked(draining, b"a")[0]) == (b"A", house.pid())
    house.write(["upper", "batch"])
    result = house.ask("upgrade")
    assert result["moved"] == 1
    assert draining.to_end() == b""
    assert kept.ask(b"b") == b"B"
    assert asked(house.connect("batch"), b"c") == (result["pid"], b"c")
    draining.close()
    assert server.process.wait(30) == 0
    assert not (house.directory / "pid.sock").exists()


def test_clients_behind_a_proxy_keep_their_names(house, tmp_path):
    listen = '[[listen]]\naddress = "unix:{}/way.sock"\nservice = "mine:way"\nproxy_protocol = {{ from = ["unix:"] }}\n'
    house.start(more=listen.format(tmp_path))
    client = house.connect("way")
    client.send(proxy.encode(2, ("192.0.2.7", 1234), ("192.0.2.1", 80)))
    before = client.ask(b"a")
    assert before.startswith(b"tcp://192.0.2.7:1234 ('192.0.2.7', 1234) ")
    house.upgrade()
    assert client.ask(b"a") == before


@pytest.mark.parametrize("name", [b"/run/client", b"/\xff\xfe", b"\0abstract\xff"])
def test_clients_of_any_name_go_along(house, tmp_path, name):
    """A Unix socket's name is bytes, which are not always text; named by the kernel or by a header."""
    listen = '[[listen]]\naddress = "unix:{}/way.sock"\nservice = "mine:pid"\nproxy_protocol = {{ from = ["unix:"] }}\n'
    listen += '[[listen]]\naddress = "unix:{}/plain.sock"\nservice = "mine:pid"\n'
    house.start(more=listen.format(tmp_path, tmp_path))
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x31" + struct.pack("!H", 216) + name.ljust(108, b"\0") + bytes(108)
    with socket.socket(socket.AF_UNIX) as told, socket.socket(socket.AF_UNIX) as named:
        told.connect(f"{tmp_path}/way.sock")
        told.sendall(header)
        named.bind(name if name[:1] == b"\0" else os.fsencode(tmp_path) + name.replace(b"/run", b""))
        named.connect(f"{tmp_path}/plain.sock")
        before = []
        for sock in (told, named):
            sock.settimeout(30)
            sock.sendall(b"a\n")
            before.append(sock.recv(100))
        house.upgrade()
        for sock, old in zip((told, named), before, strict=True):
            sock.sendall(b"a\n")
            assert sock.recv(100) not in (b"", old)
        peers = [row["peer"] for row in house.ask("connections")]
    assert len(peers) == 2
    assert all(peer.startswith("unix:") for peer in peers)


def test_limits_count_on(house):
    limits = 'max_connections_per_source = 2\nat_limit = "reset"\n'
    server = house.start(more=f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n{limits}')
    (address,) = server.addresses
    first, second = server.connect(address), server.connect(address)
    assert (first.ask(b"a"), second.ask(b"a")) == (b"A", b"A")
    house.upgrade()
    with pytest.raises(ConnectionResetError):
        server.connect(address).ask(b"third")
    first.close()
    _until(lambda: house.ask("status")["connections"] == 1)
    assert server.connect(address).ask(b"third") == b"THIRD"


def test_datagrams_and_sockets_that_were_passed(house, tmp_path):
    """`fd:` is found again, a port that the kernel chose stays, and no datagram is lost."""
    listens = ("fd:3", "udp://127.0.0.1:0", "tcp://127.0.0.1:0")
    more = "".join(f'[[listen]]\naddress = "{address}"\nservice = "mine:pid"\n' for address in listens)
    with socket.create_server(("127.0.0.1", 0)) as passed:
        number = fcntl.fcntl(passed, fcntl.F_DUPFD, 100)
        more = more.replace("fd:3", f"fd:{number}")
        server = house.start(more=more, pass_fds=[number])
        os.close(number)
    addresses = [one["address"] for one in house.ask("status")["listeners"]]
    for _ in range(2):
        datagram = server.connect(addresses[1])
        pid = house.upgrade()
        assert [one["address"] for one in house.ask("status")["listeners"]] == addresses
        datagram.send(b"d")
        assert datagram.sock.recv(100) == b"%d d" % pid
        assert [asked(server.connect(addresses[at]), b"s") for at in (0, 2)] == [(pid, b"s")] * 2


def test_reload_waits_for_the_end_of_an_upgrade(house):
    server = house.start("upper", daemon='upgrade_timeout = "60s"')
    (house.directory / "mine.py").write_text("import time; time.sleep(99)")
    house.write(["upper", "pid"])
    server.signal(signal.SIGUSR2)
    server.wait_for("upgrading")
    for verb in ("reload", "upgrade"):
        done = house.run(verb)
        assert (done.returncode, "an upgrade is in progress" in done.stderr) == (75, True), done
    server.signal(signal.SIGTERM)  # neither does a stop wait for it
    assert server.process.wait(30) == 0
    server.words.clear()


@pytest.fixture
def program_of_nobody(monkeypatch):
    """A Python that `nobody` can start, with the sockd under test and what it needs, which may be of another Python."""
    if os.geteuid() != 0:
        pytest.skip("only root can switch users")
    monkeypatch.setenv("PYTHONPATH", str(Path(sockd.__file__).parents[1]))
    for program in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError):
            words = [program, "-c", "import msgspec, sockd.cli.sockd"]
            if not subprocess.run(words, user="nobody", group="nogroup", cwd="/", capture_output=True).returncode:
                return program
    pytest.skip("no Python here can be started by nobody")


@pytest.fixture
def closing():
    with ExitStack() as stack:
        yield lambda client: stack.enter_context(contextlib.closing(client))


@pytest.mark.usefixtures("open_path")
def test_in_the_background_with_dropped_rights(house, program_of_nobody, closing, tmp_path):
    os.chmod(tmp_path, 0o755)
    (tmp_path / "mine.py").write_text(APP)
    pidfile = tmp_path / "sockd.pid"
    house.write(["pid"], f'user = "nobody"\npidfile = "{pidfile}"\nlog = {{ to = "{tmp_path}/log" }}')
    command = [program_of_nobody, "-m", "sockd", "-c", "sockd.toml"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    first = int(pidfile.read_text())
    client = closing(Client(f"unix:{tmp_path}/pid.sock"))
    for _ in range(2):
        os.kill(int(pidfile.read_text()), signal.SIGUSR2)
        _until(lambda before=first: pidfile.read_text().strip() not in ("", str(before)))
        second = int(pidfile.read_text())
        assert os.stat(f"/proc/{second}").st_uid == pwd.getpwnam("nobody").pw_uid
        assert asked(client, b"a") == (second, b"a")
        first = second
    other = subprocess.run([*command, "--foreground"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert other.returncode == 71
    assert "a daemon is already running" in other.stderr
    client.close()
    house.run("stop")
    _until(lambda: pidfile.read_text() == "")


def test_workers_keep_their_connections(house):
    """The new supervisor has workers of its own; those of the old one accept no more and end with their connections."""
    server = house.start("pid", "upper", daemon="workers = 2")
    clients = [house.connect("pid") for _ in range(6)]
    first = {asked(client, b"a")[0] for client in clients}
    assert house.pid() == server.process.pid
    result = house.ask("upgrade")
    assert result["moved"] == 0
    assert [asked(client, b"b")[0] in first for client in clients] == [True] * 6
    second = {asked(house.connect("pid"), b"c")[0] for _ in range(6)}
    assert not first & second
    assert house.ask("status")["previous_processes"] == 1
    for client in clients:
        client.close()
    assert server.process.wait(30) == 0
    _until(lambda: house.ask("status")["previous_processes"] == 0)
    (house.directory / "mine.py").write_text("1 / 0")
    assert house.fail()[0] == 78
    server.words.clear()
    assert asked(house.connect("pid"), b"d")[0] in second


CROWD, TIMES = (1000, 20) if SOAK else (100, 3)


@pytest.mark.usefixtures("files")
@pytest.mark.timeout(600)
def test_a_crowd_in_mid_frame(house):
    """Lines are written in pieces without pause, through every upgrade; transcripts are equal byte for byte."""
    house.start("upper", "Counts", "batch")
    clients = [house.connect("upper").sock for _ in range(CROWD)]
    sent, got = [bytearray() for _ in clients], [bytearray() for _ in clients]
    for sock in clients:
        sock.setblocking(False)
    over = threading.Event()
    chance = random.Random(1)

    def talk():
        rounds = 0
        while not over.is_set():
            rounds += 1
            for number, sock in enumerate(clients):
                whole = b"line %d of client %d\n" % (rounds, number)
                piece = whole[: chance.randrange(1, len(whole))] if chance.random() < 0.5 else whole
                with suppress(BlockingIOError):
                    got[number] += sock.recv(1 << 16)
                with suppress(BlockingIOError):
                    sent[number] += piece[: sock.send(piece)]

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        moved = [house.ask("upgrade")["moved"] for _ in range(TIMES)]
    finally:
        over.set()
        talker.join()
    assert moved == [CROWD] * TIMES
    for number, sock in enumerate(clients):
        sock.settimeout(30)
        sock.sendall(b"\n")
        sent[number] += b"\n"
        sock.shutdown(socket.SHUT_WR)
        while piece := sock.recv(1 << 16):
            got[number] += piece
    assert all(one.upper() == other for one, other in zip(sent, got, strict=True))
    assert house.ask("status")["services"]["upper"]["received"] == sum(map(len, sent))
