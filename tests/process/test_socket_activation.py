# SPDX-License-Identifier: MIT
"""The protocols of systemd, from outside: passed sockets, notifications, the watchdog, the store, the journal.

Seen to fail: with the variables left in the environment a child sees them; with set_inheritable() left out of
`_close_on_exec` a child inherits the listener; with the ping sent from a thread the held loop is never found out;
with `_kept` keeping the path the second start finds no path; with `close_rest` left out the unclaimed port accepts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
from controlling import Sockctl
from manager import LIMIT_S, Receiver, ask, url_of
from serving import STAY_ROOT
from watching import WITHIN_S, _script, _until

CHILD = """
import json, os, subprocess, sys

def tell(line):
    code = "import json, os; print(json.dumps([dict(os.environ), sorted(map(int, os.listdir('/proc/self/fd')))]))"
    return subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, close_fds=False).stdout.strip()

def hold(line):
    with open(line, "rb") as fifo:
        return fifo.read()
"""
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE")


def blocks(sock):
    return os.get_blocking(sock.fileno())


# ---- passed sockets


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix", "unixgram", "abstract"])
def test_a_socket_is_found_by_its_name(managed, bound, receiver, kind):
    sock, other = bound(kind), bound("tcp")
    assert blocks(sock)
    unit = managed("fd:web=upper", "fd:other=echo", sockets=[("other", other), ("web", sock)], receiver=receiver)
    receiver.wait_for("READY")
    assert ask(sock).strip() == b"HELLO"
    assert ask(other).strip() == b"hello"
    assert not blocks(sock)
    assert "passed=web" in unit.wait_for("service=upper")
    unit.end()


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix", "unixgram"])
@pytest.mark.parametrize("names", [None, "-"])
def test_a_configured_address_takes_the_socket_that_is_bound_there(managed, bound, receiver, kind, names):
    sock = bound(kind)
    unit = managed(f"{url_of(sock)}=upper", sockets=[("x.socket", sock)], names=names, receiver=receiver)
    receiver.wait_for("READY")
    assert ask(sock).strip() == b"HELLO"
    assert f"passed={'x.socket' if names is None else 'unknown'}" in unit.wait_for("listening")
    unit.end()


def test_a_socket_is_found_by_its_number(managed, bound, receiver):
    first, second = bound("tcp"), bound("tcp")
    unit = managed("fd:4=upper", "fd:3=echo", sockets=[("a", first), ("a", second)], receiver=receiver)
    receiver.wait_for("READY")
    assert (ask(first), ask(second)) == (b"hello\n", b"HELLO\n")
    unit.end()


def test_one_name_of_two_sockets_is_both(managed, bound, receiver):
    """Two ListenStream= in one socket unit have one name."""
    socks = [bound("tcp"), bound("unix")]
    unit = managed("fd:web=upper", sockets=[("web", sock) for sock in socks], receiver=receiver)
    receiver.wait_for("READY")
    assert [ask(sock) for sock in socks] == [b"HELLO\n"] * 2
    unit.end()


@pytest.mark.parametrize("hosts", [["::"], ["0.0.0.0"], ["0.0.0.0", "::"]])
def test_every_address_may_be_a_socket_for_each_family(managed, receiver, hosts):
    socks, port = [], 0
    for host in hosts:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if len(hosts) > 1 and ":" in host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen()
        port = sock.getsockname()[1]
        socks.append(("w", sock))
    unit = managed(f"tcp://:{port}=upper", sockets=socks, receiver=receiver)
    receiver.wait_for("READY")
    unit.wait_for("passed=w", count=len(hosts))
    for _, sock in socks:
        assert ask(sock) == b"HELLO\n"
        sock.close()
    unit.end()


def test_what_was_not_passed_is_bound(managed, bound, receiver, tmp_path):
    sock = bound("tcp")
    listen = [f"{url_of(sock)}=upper", f"unix:{tmp_path}/own=upper"]
    unit = managed(*listen, sockets=[("web", sock)], receiver=receiver)
    receiver.wait_for("READY")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/own")
        client.sendall(b"hello\n")
        assert client.recv(99) == b"HELLO\n"
    unit.end()
    assert not os.path.exists(f"{tmp_path}/own")


@pytest.mark.parametrize("kind", ["unix", "unixgram"])
def test_a_passed_path_is_never_removed(managed, bound, receiver, kind):
    sock = bound(kind)
    unit = managed(f"{url_of(sock)}=upper", sockets=[("web", sock)], receiver=receiver)
    receiver.wait_for("READY")
    unit.end()
    assert stat.S_ISSOCK(os.stat(sock.getsockname()).st_mode)


def test_who_came_meanwhile_is_answered_by_the_next_one(managed, bound, receiver):
    """The socket stays open in the manager: our end must not shut it down."""
    sock = bound("tcp")
    first = managed("fd:web=upper", sockets=[("web", sock)], receiver=receiver)
    receiver.wait_for("READY")
    first.end()
    with socket.create_connection(sock.getsockname(), timeout=LIMIT_S) as client:
        client.sendall(b"hello\n")
        second = managed("fd:web=upper", sockets=[("web", sock)], receiver=receiver)
        assert client.recv(99) == b"HELLO\n"
    second.end()


def test_what_nobody_takes_is_named_and_closed(managed, bound, receiver, tmp_path):
    taken, left = bound("tcp"), bound("tcp")
    with open(tmp_path / "file", "w") as file:
        sockets = [("web", taken), ("left", left), ("file", file)]
        unit = managed("fd:web=upper", sockets=sockets, receiver=receiver)
        receiver.wait_for("READY")
    closed = "closed an inherited socket that matches no listener"
    assert f"descriptor=4 name=left is={url_of(left)}" in unit.wait_for(closed)
    assert 'descriptor=5 name=file is="is a regular file, not a socket"' in unit.wait_for(closed, count=2)
    address = left.getsockname()
    left.close()
    with socket.socket() as client:
        assert client.connect_ex(address) != 0
    unit.end()


def test_children_see_neither_variables_nor_sockets(managed, bound, receiver, tmp_path):
    (tmp_path / "app.py").write_text(CHILD)
    sock = bound("tcp")
    seen = {"WATCHDOG_USEC": "60000000", "FDSTORE": "4", "OTHER": "1"}
    unit = managed("fd:web=app:tell", sockets=[("web", sock)], receiver=receiver, environment=seen)
    receiver.wait_for("READY")
    environment, descriptors = json.loads(ask(sock))
    assert environment["OTHER"] == "1"
    assert not [name for name in VARIABLES if name in environment]
    assert set(descriptors) <= {0, 1, 2, 3}  # 3 reads /proc/self/fd
    unit.end()


def test_the_variables_of_another_process_are_not_ours(managed, bound):
    """LISTEN_PID names another: nothing is taken, and the message says why."""
    unit = managed("fd:web=upper", names="web", environment={"LISTEN_FDS": "1"}, options=())
    assert "LISTEN_FDS: descriptor 3 is not open" in unit.end(78)
    words = [_script("sockd"), *STAY_ROOT, "--foreground", "--listen", "fd:web=upper"]
    done = subprocess.run(
        words, env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 71
    assert "fd:web: no socket with this name was passed; LISTEN_PID is 1, but this process is" in done.stderr


@pytest.mark.parametrize(
    ("kind", "listen", "listening", "words"),
    [
        ("tcp", "fd:web=upper", False, "does not listen (SO_ACCEPTCONN is 0)"),
        ("tcp", "fd:wbe=upper", True, "no socket with this name was passed; passed sockets: descriptor 3 (web, tcp://"),
        ("tcp", "fd:9=upper", True, "no such descriptor was passed; passed sockets: descriptor 3 (web, tcp://"),
    ],
)
def test_what_cannot_be_served_is_told(managed, bound, kind, listen, listening, words):
    sock = bound(kind, listen=listening)
    said = managed(listen, sockets=[("web", sock)]).end(71)
    assert words in said
    assert said.startswith(f'sockd: --listen "{listen}": {listen.removesuffix("=upper")}: ')
    assert len(said.splitlines()) == 1


def test_a_socket_of_packets_is_served(managed, bound):
    sock = bound("seqpacket")
    unit = managed("fd:web=upper", sockets=[("web", sock)])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.settimeout(20)
        peer.connect(sock.getsockname())
        for packet in (b"a", b"", b"b\n"):
            peer.send(packet)
        assert [peer.recv(10) for _ in "123"] == [b"A", b"", b"B\n"]
    unit.process.terminate()
    unit.end(0)


def test_more_of_what_cannot_be_served(managed, bound, tmp_path):
    said = managed("fd:web=metrics", sockets=[("web", bound("seqpacket"))]).end(78)
    assert "fd:web: service metrics cannot serve unixpacket; a function, a protocol class or a program can" in said
    sock = bound("tcp")
    said = managed("fd:web=upper", "fd:3=echo", sockets=[("web", sock)]).end(71)
    assert "already belongs to fd:web; remove one of the two" in said
    (tmp_path / "app.py").write_text("import sockd\n\nclass P(sockd.LineProtocol):\n    pass\n")
    said = managed("fd:web=app:P", sockets=[("web", bound("udp"))]).end(78)
    assert "fd:web: service app:P cannot answer datagrams" in said
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert "does not listen" in managed("fd:web=upper", sockets=[("web", ours)]).end(71)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert "is not bound, so no client can reach it" in managed("fd:web=upper", sockets=[("web", sock)]).end(71)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
        assert "is of family AF_NETLINK, which sockd does not serve" in managed("fd:web=upper", sockets=[("w", sock)],
                                                                        names="web").end(71)  # fmt: skip


def test_another_protocol_than_tcp_is_refused(managed):
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    except OSError:
        pytest.skip("this kernel has no SCTP")
    with sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        said = managed("fd:web=upper", sockets=[("web", sock)]).end(71)
    assert "has protocol 132 (SO_PROTOCOL); sockd serves TCP (6) and UDP (17)" in said


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LISTEN_FDS": "two"}, 'LISTEN_FDS: "two" is not a number from 0 to'),
        ({"LISTEN_FDS": "-1"}, 'LISTEN_FDS: "-1" is not a number'),
        ({"LISTEN_FDS": "99999999"}, 'LISTEN_FDS: "99999999" is not a number'),
        ({"WATCHDOG_USEC": "1s"}, 'WATCHDOG_USEC: "1s" is not a number'),
        ({"FDSTORE": "yes"}, 'FDSTORE: "yes" is not a number'),
    ],
)
def test_a_variable_that_cannot_be_is_named(managed, variables, words):
    assert words in managed("tcp://127.0.0.1:0=upper", environment=variables).end(78)


def test_names_and_numbers_must_agree(managed, bound):
    said = managed("fd:web=upper", sockets=[("web", bound("tcp"))], names="web:more").end(78)
    assert 'LISTEN_FDNAMES: "web:more" has 2 names for LISTEN_FDS=1 descriptors' in said


@pytest.mark.parametrize("fd", [0, 7])
def test_a_descriptor_of_a_shell_is_found_by_its_number(bound, fd, tmp_path):
    """Without LISTEN_FDS, as `sockd --listen fd:7=upper 7<&...` and `sockctl bind --stdin` leave it."""
    sock = bound("tcp")
    words = [_script("sockd"), *STAY_ROOT, "--foreground", "--listen", f"fd:{fd}=upper"]

    def place():
        os.dup2(sock.fileno(), fd)

    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=[7] if fd else [],
        preexec_fn=place,  # noqa: PLW1509 - dup2() only
    ) as process:  # fmt: skip
        try:
            assert ask(sock) == b"HELLO\n"
        finally:
            process.terminate()
    assert process.returncode == 0


def test_our_own_descriptors_are_not_passed(managed):
    """Python's and ours are close-on-exec, which what was inherited cannot be."""
    assert "fd:5: no such descriptor was passed; LISTEN_FDS is not set" in managed("fd:5=upper").end(71)


def test_in_the_background_passed_sockets_stay(bound, tmp_path, background, monkeypatch):
    """LISTEN_PID is that of the process that is started, which forks twice."""
    sock = bound("unix")
    launcher = (
        "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.dup2(int(sys.argv[1]), 3);"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    prefix = [sys.executable, "-S", "-c", launcher, str(sock.fileno())]
    one = background(
        listen="fd:web", prefix=prefix, pass_fds=[sock.fileno()],
        environment={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"},
    )  # fmt: skip
    assert one.code == 0, one.words
    assert ask(sock) == b"HELLO\n"
    one.stop()
    assert os.path.exists(sock.getsockname())


# ---- with systemd's own tool


@pytest.fixture
def activate():
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        pytest.skip("systemd-socket-activate is not here")
    processes = []

    def start(*words):
        command = [tool, *words[: words.index("--")], _script("sockd"), *STAY_ROOT, *words[words.index("--") + 1 :]]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.terminate()
        assert process.wait(LIMIT_S) == 0


def ask_path(path):
    def attempt():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT_S)
            try:
                client.connect(path)
            except OSError:
                return b""
            client.sendall(b"hello\n")
            return client.recv(99)

    return _until(attempt, LIMIT_S)


def test_socket_activate_plain(activate, tmp_path):
    activate(f"--listen={tmp_path}/s", "--", "--foreground", "--listen", f"unix:{tmp_path}/s=upper")
    assert ask_path(f"{tmp_path}/s") == b"HELLO\n"


def test_socket_activate_with_names(activate, tmp_path):
    activate(
        f"--listen={tmp_path}/a", f"--listen={tmp_path}/b", "--fdname=one:two",
        "--", "--foreground", "--listen", "fd:two=echo", "--listen", "fd:one=upper",
    )  # fmt: skip
    assert ask_path(f"{tmp_path}/a") == b"HELLO\n"
    assert ask_path(f"{tmp_path}/b") == b"hello\n"


# ---- notifications


@pytest.fixture(params=["path", "abstract"])
def either(request, tmp_path):
    one = Receiver(f"{tmp_path}/n" if request.param == "path" else f"@sockd-test-notify-{os.getpid()}")
    yield one
    one.close()


def test_a_life_as_the_manager_is_told(managed, either, tmp_path):
    (tmp_path / "sockd.toml").write_text('[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n')
    unit = managed(words=["--foreground", "--config", "sockd.toml"], receiver=either)
    first = either.wait_for("READY")
    assert first["MAINPID"] == str(unit.process.pid)
    assert first["STATUS"] == "serving, 0 connections, 1 listener"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    unit.process.send_signal(signal.SIGHUP)
    reloading = either.wait_for("RELOADING")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    either.wait_for("READY", count=2)
    unit.process.terminate()
    stopping = either.wait_for("STOPPING")
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) == 15_000_000  # stop_timeout and 5 s
    assert unit.process.wait(LIMIT_S) == 0, unit.said  # a second TERM might come once it has given its signals up
    keys = [next(iter(message)) for message in either.messages]
    assert keys == ["READY", "RELOADING", "READY", "STOPPING"]


def test_nothing_is_ready_that_cannot_serve(managed, bound, receiver):
    sock = bound("tcp")
    unit = managed(f"{url_of(sock)}=upper", receiver=receiver)
    assert "EADDRINUSE" in unit.end(71)
    assert receiver.messages == []


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("vsock:2:1234", "only a path and @NAME are supported, vsock is not"),
        ("/nowhere/notify", "No such file or directory"),
        ("/" + "n" * 200, "too long"),
    ],
)
def test_a_manager_that_cannot_be_told_is_named(managed, address, why):
    unit = managed("tcp://127.0.0.1:0=upper", environment={"NOTIFY_SOCKET": address})
    unit.wait_for("listening")
    line = next(line for line in unit.words if "cannot notify the service manager" in line)
    assert address in line
    assert why in line
    unit.end()


def test_a_manager_that_went_away_does_not_hold_us_up(managed, tmp_path):
    receiver = Receiver(f"{tmp_path}/n")
    unit = managed("tcp://127.0.0.1:0=upper", receiver=receiver)
    receiver.wait_for("READY")
    receiver.close()
    assert "cannot notify the service manager" in unit.end()


def test_a_manager_that_is_busy_is_told_later(managed, tmp_path):
    """Its queue is full; the loop does not wait for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{tmp_path}/n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rush:
            rush.setblocking(False)
            sent = 0
            while sent < 100_000:
                try:
                    rush.sendto(b"WATCHDOG=1", f"{tmp_path}/n")
                except BlockingIOError:
                    break
                sent += 1
        unit = managed(f"unix:{tmp_path}/s=upper", environment={"NOTIFY_SOCKET": f"{tmp_path}/n"})
        assert ask_path(f"{tmp_path}/s") == b"HELLO\n"
        for _ in range(sent):
            manager.recv(99)
        manager.settimeout(LIMIT_S)
        assert manager.recv(999).startswith(b"READY=1\n")
        unit.end()


def test_the_loop_itself_pings_at_half_the_time(managed, bound, receiver, tmp_path):
    (tmp_path / "app.py").write_text(CHILD)
    os.mkfifo(tmp_path / "fifo")
    sock = bound("tcp")
    unit = managed(
        "fd:web=app:hold", sockets=[("web", sock)], receiver=receiver, environment={"WATCHDOG_USEC": "400000"}
    )
    receiver.wait_for("WATCHDOG", count=3)
    began = time.monotonic()
    receiver.wait_for("WATCHDOG", count=8)
    assert time.monotonic() - began >= 0.8  # five halves, less the turn of the wheel
    with socket.create_connection(sock.getsockname(), timeout=LIMIT_S) as client:
        client.sendall(f"{tmp_path}/fifo\n".encode())
        with open(tmp_path / "fifo", "wb") as fifo:  # returns when the handler has opened it: the loop is held
            count = len(receiver.messages)
            time.sleep(1.0)  # 5 pings would have come; that none comes cannot be waited for
            assert len(receiver.messages) <= count + 1  # one may have been on its way
            fifo.write(b"done")
        assert client.recv(99) == b"done\n"
    receiver.wait_for("WATCHDOG", count=len(receiver.messages) + 1)
    assert receiver.messages[-1]["STATUS"].startswith("serving, ")
    unit.end()


FAILS = """
from sockd.daemon.daemon import Daemon

status, calls = Daemon._status, []

def planted(self):
    calls.append(self)
    if len(calls) == 3:
        raise RuntimeError("planted")
    return status(self)

Daemon._status = planted

def answer(line):
    return line
"""


def test_a_ping_that_fails_is_not_the_last(managed, bound, receiver, tmp_path):
    """fails with the next one set behind it: the manager kills the daemon"""
    (tmp_path / "app.py").write_text(FAILS)
    unit = managed(
        "fd:web=app:answer", sockets=[("web", bound("tcp"))], receiver=receiver, environment={"WATCHDOG_USEC": "200000"}
    )
    receiver.wait_for("WATCHDOG", count=4)
    unit.end()


def test_the_watchdog_of_another_process_is_not_ours(managed, receiver):
    launcher = "import os, sys; os.environ['WATCHDOG_PID'] = '1'; os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-S", "-c", launcher, _script("sockd"), *STAY_ROOT]
    environment = {**os.environ, "NOTIFY_SOCKET": receiver.address, "WATCHDOG_USEC": "20000"}
    with subprocess.Popen(
        [*words, "--foreground", "--listen", "tcp://127.0.0.1:0=upper"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        receiver.wait_for("READY")
        process.send_signal(signal.SIGHUP)
        receiver.wait_for("READY", count=2)  # a turn later, and more than one ping would have come
        process.terminate()
        receiver.wait_for("STOPPING")
    assert not [message for message in receiver.messages if "WATCHDOG" in message]


# ---- the store of descriptors


def test_a_restart_finds_its_listeners_again(managed, receiver, tmp_path):
    listen = ["tcp://127.0.0.1:0=upper", f"unix:{tmp_path}/s=upper", "udp://127.0.0.1:0=upper"]
    first = managed(*listen, receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY")
    stored = list(receiver.stored)
    names = ["tcp%3A//127.0.0.1%3A0 upper", f"unix%3A{tmp_path}/s", "udp%3A//127.0.0.1%3A0 upper"]
    assert [name for name, _ in stored] == names
    where = [sock.getsockname() for _, sock in stored]
    first.end()
    assert os.path.exists(f"{tmp_path}/s")  # or who comes now would not find the way
    client = socket.create_connection(where[0], timeout=LIMIT_S)
    second = managed(*listen, sockets=stored, receiver=receiver, environment={"FDSTORE": "8"})
    with client:
        client.sendall(b"hello\n")
        assert client.recv(99) == b"HELLO\n"
    receiver.wait_for("READY", count=2)
    assert [ask(sock).strip() for _, sock in stored] == [b"HELLO"] * 3
    assert [sock.getsockname() for _, sock in receiver.stored] == where * 2  # the same ones again, none besides
    second.end()


def test_a_restart_finds_the_port_of_each_service(managed, receiver):
    """A manager keeps no order.  Seen failing: each had the port of the other."""
    listen = [f"tcp://127.0.0.1:0={name}" for name in ("upper", "echo")]
    first = managed(*listen, receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY")
    stored = list(receiver.stored)
    assert [ask(sock).strip() for _, sock in stored] == [b"HELLO", b"hello"]
    first.end()
    second = managed(*listen, sockets=stored[::-1], receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY", count=2)
    assert [ask(sock).strip() for _, sock in stored] == [b"HELLO", b"hello"]
    second.end()


def test_a_restart_tells_listeners_with_one_service_apart(managed, receiver, tmp_path):
    """Each has settings of its own.  Seen failing: in the other order of a manager, each had the port of the other."""
    rows = [f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "echo"\ngreeting_files = ["{tmp_path}/{one}"]\n'
            for one in "abc"]  # fmt: skip
    for one in "abc":
        (tmp_path / one).write_text(one)
    (tmp_path / "sockd.toml").write_text("".join(rows))
    words = ["--foreground", "-c", "sockd.toml"]
    first = managed(words=words, receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY")
    stored = list(receiver.stored)
    name = "tcp%3A//127.0.0.1%3A0 echo"
    assert [name for name, _ in stored] == [name, f"{name} 1", f"{name} 2"]
    assert [greeting(sock) for _, sock in stored] == [b"a", b"b", b"c"]
    first.end()
    second = managed(words=words, sockets=stored[::-1], receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY", count=2)
    assert [greeting(sock) for _, sock in stored] == [b"a", b"b", b"c"]
    second.end()
    unnumbered = [(name, sock) for _, sock in stored]  # as the version before had them
    third = managed(words=words, sockets=unnumbered, receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY", count=3)
    assert sorted(greeting(sock) for _, sock in stored) == [b"a", b"b", b"c"]
    third.end()
    (tmp_path / "sockd.toml").write_text(rows[2])  # what is left takes what is there
    managed(words=words, sockets=stored[1:], receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY", count=4)
    assert greeting(stored[1][1]) == b"c"


def greeting(sock):
    with socket.create_connection(sock.getsockname(), timeout=LIMIT_S) as client:
        return client.recv(9)


def test_a_store_of_none_and_one_that_is_full(managed, receiver, tmp_path):
    first = managed(f"unix:{tmp_path}/s=upper", receiver=receiver)
    receiver.wait_for("READY")
    assert receiver.stored == []
    first.end()
    assert not os.path.exists(f"{tmp_path}/s")
    listen = [f"unix:{tmp_path}/{name}=upper" for name in "ab"]
    second = managed(*listen, receiver=receiver, environment={"FDSTORE": "1"})
    receiver.wait_for("READY", count=2)
    assert [name for name, _ in receiver.stored] == [f"unix%3A{tmp_path}/a"]
    second.end()
    assert [name for name in "ab" if os.path.exists(tmp_path / name)] == ["a"]


def test_what_the_configuration_has_no_more_leaves_the_store(managed, receiver, bound):
    old = bound("tcp")
    unit = managed(
        "tcp://127.0.0.1:0=upper", sockets=[("tcp%3A//127.0.0.1%3A9", old)], receiver=receiver,
        environment={"FDSTORE": "8"},
    )  # fmt: skip
    receiver.wait_for("READY")
    assert receiver.messages[0] == {"FDSTOREREMOVE": "1", "FDNAME": "tcp%3A//127.0.0.1%3A9"}
    unit.end()


def test_a_stored_path_that_is_gone_is_bound_anew(managed, receiver, tmp_path):
    """RuntimeDirectory= is made anew at each start unless RuntimeDirectoryPreserve= says otherwise."""
    first = managed(f"unix:{tmp_path}/s=upper", receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY")
    first.end()
    os.unlink(tmp_path / "s")
    second = managed(
        f"unix:{tmp_path}/s=upper", sockets=list(receiver.stored), receiver=receiver, environment={"FDSTORE": "8"}
    )
    receiver.wait_for("READY", count=2)
    assert ask_path(f"{tmp_path}/s") == b"HELLO\n"
    assert [next(iter(m)) for m in receiver.messages[-3:]] == ["FDSTOREREMOVE", "FDSTORE", "READY"]
    second.end()


# ---- the journal


def test_priorities_where_standard_error_is_the_journal(tmp_path):
    (tmp_path / "app.py").write_text("def fail(line):\n    raise ValueError('no')\n")
    with open(tmp_path / "journal", "wb") as journal:
        found = os.fstat(journal.fileno())
        stream = f"{found.st_dev}:{found.st_ino}"
        environment = {**os.environ, "JOURNAL_STREAM": stream}
        words = [_script("sockd"), *STAY_ROOT, "--foreground", "--listen", f"unix:{tmp_path}/s=app:fail"]
        with subprocess.Popen(
            words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=journal
        ) as process:
            with socket.socket(socket.AF_UNIX) as client:
                _until(lambda: client.connect_ex(f"{tmp_path}/s") == 0, LIMIT_S)
                client.settimeout(WITHIN_S)
                client.sendall(b"hello\n")
                assert client.recv(99) == b""
            process.terminate()
        wrong = subprocess.run([*words, "--multiplexer", "no"], cwd=tmp_path, env=environment, stderr=journal)
    lines = (tmp_path / "journal").read_text().splitlines()
    assert wrong.returncode == 64
    assert all(re.match("<[0-7]>", line) for line in lines), lines
    assert "<6>listening address=" in "\n".join(lines)  # no time, no level: the journal has them
    failed = [line for line in lines if "handler failed" in line or "ValueError" in line]
    assert len(failed) >= 2
    assert {line[:3] for line in failed} == {"<3>"}
    assert lines[-1].startswith("<3>sockd: --multiplexer")


def test_no_priorities_elsewhere(tmp_path):
    """JOURNAL_STREAM is inherited by who redirects standard error: then it names another file."""
    environment = {**os.environ, "JOURNAL_STREAM": "1:2"}
    done = subprocess.run(
        [_script("sockd"), "--foreground", "--multiplexer", "no"], env=environment, capture_output=True, text=True
    )
    assert done.stderr.startswith("sockd: ")


def test_a_drained_listener_leaves_the_store(managed, receiver, bound, tmp_path):
    """Else the manager would hold its address, and nobody could bind it again."""
    sockctl, passed = Sockctl(tmp_path), bound("tcp")
    text = "".join(f'[[listen]]\naddress = "{one}"\nservice = "upper"\n' for one in ("tcp://127.0.0.1:0", "fd:web"))
    (tmp_path / "sockd.toml").write_text(f'[daemon]\ncontrol = "{sockctl.path}"\n{text}')
    words = ["--foreground", "-c", "sockd.toml"]
    unit = managed(words=words, sockets=[("web", passed)], receiver=receiver, environment={"FDSTORE": "8"})
    receiver.wait_for("READY")
    address = sockctl.ask("status")["listeners"][0]["address"]
    sockctl.ask("drain", address)
    name, stored = receiver.stored[-1]
    receiver.wait_for("FDSTOREREMOVE")
    assert receiver.messages[-1]["FDNAME"] == name == "tcp%3A//127.0.0.1%3A0 upper"
    stored.close()
    assert sockctl.ask("undrain", address) == {"listening": address}
    receiver.wait_for("FDSTORE", count=2)
    assert receiver.stored[-1][0] == name  # not of the port that it has: the configuration says 0
    assert receiver.stored[-1][1].getsockname()[1] == int(address.rpartition(":")[2])
    done = sockctl.run("drain", url_of(passed), "--for", "1m")
    assert (done.returncode, "cannot be bound again by this process; drain it without --for" in done.stderr) == (
        64,
        True,
    )
    unit.end()
