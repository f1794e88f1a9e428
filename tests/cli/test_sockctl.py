# SPDX-License-Identifier: MIT
"""sockctl from outside: a process, real sockets, its exit code and what it prints."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import sockd.cli.sockctl
from sockd.client.pumps import MAX_LINE_BYTES, WINDOW

ROOT = Path(sockd.cli.sockctl.__file__).parents[1]
LIMIT_S = 60  # of one run; a hang becomes a failure
MIB = 1024 * 1024


@pytest.fixture(scope="session")
def command():
    """Find the installed script: $SOCKCTL, else beside this Python, else on PATH, else the module of this checkout."""
    beside = shutil.which("sockctl", path=os.path.dirname(sys.executable))
    script = os.environ.get("SOCKCTL") or beside or shutil.which("sockctl")
    return [script] if script else [sys.executable, "-m", "sockd.cli.sockctl"]


@pytest.fixture
def environment():
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def sockctl(command, environment):
    """Run it to its end."""

    def run(*words, **options):
        if "stdin" not in options:
            options.setdefault("input", b"")
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": LIMIT_S, **options}
        return subprocess.run([*command, *map(str, words)], env=environment, **options)

    return run


@pytest.fixture
def opened():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(command, environment, opened):
    """Start it and leave it running, with its three streams as pipes."""

    def popen(*words, **options):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
        child = subprocess.Popen([*command, *map(str, words)], env=environment, **{**pipes, **options})
        opened.enter_context(child)
        opened.callback(child.kill)
        return child

    return popen


@pytest.fixture
def server(opened, tmp_path):
    """Open a server socket of a scheme; gives it and its address."""

    def open_one(scheme, backlog=5):
        unix = scheme.startswith("unix")
        kind = socket.SOCK_STREAM if scheme in ("tcp", "unix") else socket.SOCK_DGRAM
        sock = opened.enter_context(socket.socket(socket.AF_UNIX if unix else socket.AF_INET, kind))
        sock.settimeout(LIMIT_S)
        sock.bind(f"{tmp_path}/s" if unix else ("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen(backlog)
        text = f"{scheme}:{tmp_path}/s" if unix else f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"
        return sock, text

    return open_one


@pytest.fixture
def serving(opened):
    """Run a function beside the test; its exception fails the test."""

    def run(function, *arguments):
        errors = []

        def guarded():
            try:
                function(*arguments)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()

        def finish():
            thread.join(LIMIT_S)
            assert not thread.is_alive()
            assert errors == []

        opened.callback(finish)

    return run


def accept(sock):
    peer, _ = sock.accept()
    peer.settimeout(LIMIT_S)
    return peer


def read_all(peer):
    with peer.makefile("rb") as stream:
        return stream.read()


def upper_stream(sock):
    """Answer only after the peer's end of file: a client that never shuts down hangs."""
    with accept(sock) as peer:
        peer.sendall(read_all(peer).upper())


def upper_datagrams(sock, count):
    for _ in range(count):
        data, client = sock.recvfrom(MIB)
        sock.sendto(data.upper(), client)


def echo_stream(sock):
    with accept(sock) as peer:
        while data := peer.recv(65536):
            peer.sendall(data)


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def outcome(result):
    return result.returncode, result.stdout, result.stderr.decode()


# The four kinds of address.


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_a_stream_is_shut_down_at_the_end_of_input_and_read_to_its_end(sockctl, server, serving, scheme):
    sock, address = server(scheme)
    serving(upper_stream, sock)
    assert outcome(sockctl("connect", address, input=b"hello\nlast without newline")) == (
        0,
        b"HELLO\nLAST WITHOUT NEWLINE",
        "",
    )


@pytest.mark.parametrize("scheme", ["udp", "unixgram"])
def test_each_line_is_a_datagram_and_each_answer_is_printed(sockctl, server, serving, scheme):
    sock, address = server(scheme)
    seen = []

    def serve():
        for _ in range(4):
            data, client = sock.recvfrom(99)
            seen.append(data)
            sock.sendto(data.upper(), client)

    serving(serve)
    assert outcome(sockctl("connect", address, input=b"hello\n\ntwo\nlast")) == (0, b"HELLO\n\nTWO\nLAST", "")
    assert seen == [b"hello\n", b"\n", b"two\n", b"last"]


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_end_of_input_at_once_still_reads_the_answer(sockctl, server, serving, scheme):
    sock, address = server(scheme)

    def banner():
        with accept(sock) as peer:
            assert peer.recv(1) == b""
            peer.sendall(b"banner")

    serving(banner)
    assert outcome(sockctl("connect", address)) == (0, b"banner", "")


def test_no_datagram_is_due_an_answer_without_input(sockctl, server):
    _, address = server("udp")
    assert outcome(sockctl("connect", address)) == (0, b"", "")


# Amounts, files, and both ways at once.


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_many_bytes_both_ways_at_once_from_a_file_to_a_file(sockctl, server, serving, tmp_path, scheme):
    sock, address = server(scheme)
    data = os.urandom(8 * MIB)
    (tmp_path / "in").write_bytes(data)
    serving(echo_stream, sock)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        result = sockctl("connect", address, stdin=source, stdout=sink)
    assert (result.returncode, result.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == data


def test_many_bytes_through_pipes(sockctl, server, serving):
    sock, address = server("tcp")
    data = os.urandom(4 * MIB)
    serving(echo_stream, sock)
    assert outcome(sockctl("connect", address, input=data)) == (0, data, "")


def test_a_reader_that_waits_holds_the_sender_back_and_loses_nothing(start, server):
    sock, address = server("tcp")
    child = start("connect", address)
    data = os.urandom(64 * MIB)
    with accept(sock) as peer:
        sent = 0
        # Nobody reads the tool's output, so the kernel's buffers and ours fill up before all is taken.
        peer.settimeout(1.0)
        with suppress(TimeoutError):
            while sent < len(data):
                sent += peer.send(data[sent : sent + 65536])
        assert sent < len(data)
        assert resident_bytes(child.pid) < 64 * MIB
        peer.settimeout(LIMIT_S)
        received = []
        reader = threading.Thread(target=lambda: received.append(child.stdout.read()))
        reader.start()
        peer.sendall(data[sent:])
    reader.join(LIMIT_S)
    assert received == [data]
    assert child.wait(LIMIT_S) == 0


def resident_bytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_many_datagrams_are_all_answered(sockctl, server, serving):
    sock, address = server("udp")
    lines = b"".join(b"line %d\n" % n for n in range(2000))
    serving(upper_datagrams, sock, 2000)
    assert outcome(sockctl("connect", address, input=lines)) == (0, lines.upper(), "")


def test_a_service_that_never_answers_still_gets_every_datagram(sockctl, server):
    sock, address = server("udp")
    count = WINDOW * 2 + 3
    result = sockctl("connect", address, "--timeout", "300ms", input=b"x\n" * count)
    sock.setblocking(False)
    for _ in range(count):
        assert sock.recv(9) == b"x\n"
    assert outcome(result)[0] == 75
    assert f"{count} of {count} datagrams unanswered after 0.3 s" in result.stderr.decode()


def test_some_answers_that_never_came_are_counted(sockctl, server, serving):
    sock, address = server("udp")
    serving(upper_datagrams, sock, 2)
    code, out, err = outcome(sockctl("connect", address, "--timeout", "300ms", input=b"a\nb\nc\n"))
    assert (code, out) == (75, b"A\nB\n")
    assert err == f"sockctl: no answer: {address} (1 of 3 datagrams unanswered after 0.3 s)\n"


@pytest.mark.parametrize("line", [b"x" * (MAX_LINE_BYTES + 1), b"x" * MAX_LINE_BYTES + b"\n", b"x" * MIB])
def test_a_line_that_fits_in_no_datagram_is_refused(sockctl, server, line):
    _, address = server("udp")
    code, out, err = outcome(sockctl("connect", address, input=line))
    assert (code, out) == (71, b"")
    assert err.startswith(f"sockctl: {address}: a line of ")
    assert err.endswith("bytes does not fit in a datagram\n")


def test_the_longest_line_is_one_datagram(sockctl, server, serving):
    sock, address = server("udp")
    serving(upper_datagrams, sock, 1)
    line = b"x" * (MAX_LINE_BYTES - 1) + b"\n"
    assert outcome(sockctl("connect", address, input=line)) == (0, line.upper(), "")


# Interactive use.


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_each_line_is_answered_before_the_end_of_input(start, server, serving, scheme):
    sock, address = server(scheme)
    serving(echo_stream, sock)
    child = start("connect", address)
    for line in (b"one\n", b"two\n"):
        child.stdin.write(line)
        assert child.stdout.readline() == line
    child.stdin.close()
    assert child.wait(LIMIT_S) == 0


def test_a_terminal_with_control_d(start, server, serving):
    sock, address = server("tcp")
    serving(upper_stream, sock)
    ours, theirs = pty.openpty()
    child = start("connect", address, stdin=theirs)
    os.close(theirs)
    os.write(ours, b"hello\n\x04")
    assert child.stdout.read() == b"HELLO\n"
    assert child.wait(LIMIT_S) == 0
    os.close(ours)


def test_the_peers_end_is_the_end_even_if_input_stays_open(start, server):
    sock, address = server("tcp")
    child = start("connect", address)
    with accept(sock) as peer:
        peer.sendall(b"bye\n")
    assert child.wait(LIMIT_S) == 0
    assert child.stdout.read() == b"bye\n"
    assert child.stderr.read() == b""


def test_control_c_ends_it_without_a_traceback(start, server):
    sock, address = server("tcp")
    child = start("connect", address, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    with accept(sock):
        child.send_signal(signal.SIGINT)
        assert child.wait(LIMIT_S) == 130
    assert child.stderr.read() == b""


def test_nobody_reads_the_output_any_more(start, server):
    sock, address = server("tcp")
    child = start("connect", address)
    child.stdout.close()
    with accept(sock) as peer:
        peer.sendall(b"x" * 100)
        assert child.wait(LIMIT_S) == 0
    assert child.stderr.read() == b""


def test_closed_standard_streams_are_never_taken_by_the_socket(command, environment, server, serving):
    sock, address = server("tcp")
    seen = []

    def serve():
        with accept(sock) as peer:
            seen.append(read_all(peer))

    serving(serve)
    words = ["sh", "-c", 'exec "$@" <&- >&-', "sh", *command, "connect", address]
    result = subprocess.run(words, env=environment, stderr=subprocess.PIPE, timeout=LIMIT_S)
    assert (result.returncode, result.stderr) == (0, b"")
    assert seen == [b""]


# What goes wrong.


def test_refused_is_75_and_says_what_was_tried(sockctl, server):
    sock, address = server("tcp")
    sock.close()
    tried = address.removeprefix("tcp://")
    expected = f"sockctl: connection refused: {address} (tried {tried}: Connection refused)\n"
    assert outcome(sockctl("connect", address)) == (75, b"", expected)


def test_udp_refused_by_icmp_is_told(sockctl, server):
    sock, address = server("udp")
    sock.close()
    expected = f"sockctl: connection refused: {address} (no process listens there)\n"
    assert outcome(sockctl("connect", address, input=b"x\n")) == (75, b"", expected)


def test_a_path_without_a_server_is_75(sockctl, tmp_path):
    code, out, err = outcome(sockctl("connect", f"unix:{tmp_path}/none"))
    assert (code, out) == (75, b"")
    assert err.startswith(f"sockctl: cannot connect: unix:{tmp_path}/none (tried {tmp_path}/none: No such file")


def test_a_server_that_never_accepts_is_given_up_in_time(sockctl, server, opened, tmp_path):
    _, address = server("unix", backlog=0)
    opened.enter_context(socket.socket(socket.AF_UNIX)).connect(f"{tmp_path}/s")
    code, _, err = outcome(sockctl("connect", address, "--timeout", "200ms"))
    assert code == 75
    assert err.startswith(f"sockctl: timed out after 0.2 s: {address} (tried ")


def test_a_reset_prints_what_came_before_it(start, server):
    sock, address = server("tcp")
    child = start("connect", address)
    peer = accept(sock)
    peer.sendall(b"part\n")
    assert child.stdout.readline() == b"part\n"
    reset(peer)
    assert child.wait(LIMIT_S) == 75
    assert child.stderr.read().decode() == f"sockctl: connection reset: {address} (the peer aborted it)\n"


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_a_peer_that_closes_before_it_took_the_input(start, server, scheme):
    sock, address = server(scheme)
    child = start("connect", address)
    with accept(sock) as peer:
        child.stdin.write(b"x" * 1000)
        assert peer.recv(10) == b"x" * 10
        peer.sendall(b"enough\n")
        assert child.stdout.readline() == b"enough\n"
    assert child.wait(LIMIT_S) == 75
    assert child.stderr.read().decode().startswith("sockctl: connection ")


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_a_peer_that_ended_one_side_only_still_gets_the_input(sockctl, server, serving, scheme):
    sock, address = server(scheme)
    seen = []

    def serve():
        with accept(sock) as peer:
            peer.sendall(b"end\n")
            peer.shutdown(socket.SHUT_WR)
            seen.append(len(read_all(peer)))

    serving(serve)
    assert outcome(sockctl("connect", address, input=b"x" * 8 * MIB)) == (0, b"end\n", "")
    assert seen == [8 * MIB]


def test_a_peer_that_ended_and_takes_no_more_is_given_up_in_time(sockctl, server, serving):
    sock, address = server("tcp")
    done = threading.Event()

    def serve():
        with accept(sock) as peer:
            peer.recv(10)
            peer.sendall(b"end\n")
            peer.shutdown(socket.SHUT_WR)
            done.wait(LIMIT_S)

    serving(serve)
    code, out, err = outcome(sockctl("connect", address, "--timeout", "500ms", input=b"x" * 32 * MIB))
    done.set()
    assert (code, out) == (75, b"end\n")
    assert "bytes of input not sent" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_named(sockctl, server, serving):
    sock, address = server("tcp")
    serving(upper_stream, sock)
    with open("/dev/full", "wb") as full:
        result = sockctl("connect", address, input=b"x\n", stdout=full)
    assert result.returncode == 71
    assert result.stderr.decode() == "sockctl: standard output: No space left on device (ENOSPC)\n"


# The command line.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "VERB"),
        (["conect", "tcp://a:1"], "sockctl: conect: no such verb; did you mean connect?"),
        (["-c", "sockd.toml", "status"], "-c: no such option; write --control and the path that [daemon] control"),
        (["--json", "status"], "--json: options stand behind the verb, such as sockctl status --json"),
        (["connect"], "ADDRESS"),
        (["connect", "127.0.0.1:7"], "did you mean tcp://127.0.0.1:7"),
        (["connect", "tcp://a:65536"], "65536 is out of range"),
        (["connect", "tcp://a:1", "--timeout", "soon"], "'soon'"),
        (["connect", "tcp://a:1", "--timeout", "0"], "more than 0"),
        (["connect", "tcp://a:1", "--timeout", "2d"], "at most a day"),
        (["connect", "tcp://a:1", "--time", "1s"], "--time"),
    ],
)
def test_usage_errors_are_64(sockctl, words, said):
    code, out, err = outcome(sockctl(*words))
    assert (code, out) == (64, b"")
    assert said in err
    assert all(line.startswith("sockctl: ") for line in err.splitlines())


def test_version_and_help(sockctl):
    code, out, err = outcome(sockctl("-V"))
    assert (code, err) == (0, "")
    assert out.startswith(b"sockctl ")
    code, out, _ = outcome(sockctl("connect", "--help"))
    assert code == 0
    assert b"ADDRESS" in out


def test_main_returns_the_code_and_never_exits(capfd):
    assert sockd.cli.sockctl.main(["connect", "nonsense"]) == 64
    assert sockd.cli.sockctl.main(["--version"]) == 0
    assert "did you mean" in capfd.readouterr().err


# ---- password


def test_a_line_of_the_users_file(sockctl):
    done = sockctl("password", "alice", input=b"secret\n")
    assert done.returncode == 0
    user, _, text = done.stdout.decode().rstrip("\n").partition(":")
    assert user == "alice"
    assert text.startswith("$scrypt$ln=15,r=8,p=3$")
    assert done.stdout != sockctl("password", "alice", input=b"secret\n").stdout  # a salt of its own


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        ("a:b", b"secret\n", b"is not a valid user"),
        ("", b"secret\n", b"is not a valid user"),
        ("#a", b"secret\n", b"is not a valid user"),
        ("alice", b"\n", b"a password must have 1 to 255 bytes"),
        ("alice", b"x" * 256 + b"\n", b"a password must have 1 to 255 bytes"),
    ],
)
def test_what_can_be_no_user_or_password(sockctl, user, password, said):
    done = sockctl("password", user, input=password)
    assert (done.returncode, done.stdout) == (64, b"")
    assert said in done.stderr
