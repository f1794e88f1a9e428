# SPDX-License-Identifier: MIT
"""A daemon as a person starts it, watched from outside: its log, its sockets, what /proc tells of it.

`daemon(...)` starts one and returns a `Daemon`; at the end of the test each is stopped, and one
that died, or wrote to standard error what is no log line, fails the test.  SOCKD_MULTIPLEXER=NAME
(auto, epoll, poll, select) in the environment has the whole suite run under that multiplexer;
SOCKD_SOAK=1 asks for the large counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from serving import STAY_ROOT

START_S = 20
"""A start takes 0.2 s; a host that is busy may take longer."""
LOG_PIPE_BYTES = 1 << 20
"""A daemon drops lines that a pipe has no room for."""
WITHIN_S = 10
"""Until what must happen at once has happened."""
CLIENT_TIMEOUT_S = 20
"""Of a client's socket: a hang becomes a failure."""
RESET = struct.pack("ii", 1, 0)
TICKS = os.sysconf("SC_CLK_TCK")
CLONE_NEWNET = 0x40000000

SOAK = os.environ.get("SOCKD_SOAK") == "1"


def _script(name: str) -> str:
    """Find an installed script: beside this Python, else on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed, neither beside {sys.executable} nor on PATH")
    return found


def _until(tell, within: float = WITHIN_S):
    """Ask again until the answer is true, and return it; AssertionError after `within` seconds."""
    end = time.monotonic() + within
    pause = 0.001
    while not (told := tell()):
        assert time.monotonic() < end, f"not so within {within} s: {tell}"
        time.sleep(pause)  # only until the next look; the condition decides
        pause = min(pause * 2, 0.02)
    return told


class Daemon:
    """One running sockd.

    Attributes:
        lines: every log line so far, as dicts, in order; only ever appended to.
        other: lines of standard error that are no log lines.
        directory: where it runs, with app.py and sockd.toml.
        process: the Popen object; its standard output is at `printed`.
    """

    def __init__(self, command, directory, *, listeners, environment, before) -> None:
        self.directory = directory
        self.lines: list[dict] = []
        self.other: list[str] = []
        self.printed: list[str] = []
        self._change = threading.Condition()
        self._ended = False
        self._clients = ExitStack()
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},  # as users have it
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            preexec_fn=before,  # noqa: PLW1509 - limits only, set before any thread of ours runs
        )
        with contextlib.suppress(OSError):  # an ordinary user may have reached a limit (pipe(7))
            fcntl.fcntl(self.process.stderr, fcntl.F_SETPIPE_SZ, LOG_PIPE_BYTES)
        self._readers = [
            threading.Thread(target=self._read_log, daemon=True),
            threading.Thread(target=self._read_output, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            for count in range(1, listeners + 1):
                self.wait_for("listening", count=count, within=START_S)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    # ---- the log

    def _read_log(self) -> None:
        for text in self.process.stderr:
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            with self._change:
                if isinstance(line, dict):
                    self.lines.append(line)
                else:
                    self.other.append(text)
                self._change.notify_all()
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _read_output(self) -> None:
        for text in self.process.stdout:
            self.printed.append(text)

    def logged(self, message: str | None = None, *, since: int = 0, **fields) -> list[dict]:
        """Return the lines with that message and those fields, from line number `since` on."""
        return [
            line
            for line in self.lines[since:]
            if (message is None or line["message"] == message)
            and all(line.get(key) == value for key, value in fields.items())
        ]

    def wait_for(self, message: str, *, count: int = 1, since: int = 0, within: float = WITHIN_S, **fields) -> dict:
        """Wait until there are `count` such lines, and return the last of them."""
        end = time.monotonic() + within
        with self._change:
            while len(found := self.logged(message, since=since, **fields)) < count:
                left = end - time.monotonic()
                if left <= 0 or self._ended:
                    state = "its log ended" if self._ended else f"within {within} s"
                    raise AssertionError(
                        f"{len(found)} of {count} lines {message!r} {fields or ''} {state}; "
                        f"the log: {self.lines[since:][-20:]} {self.other[-20:]}"
                    )
                self._change.wait(left)
        return found[count - 1]

    def closed(self, reason: str | None = None, *, count: int = 1, since: int = 0, within: float = WITHIN_S, **fields):
        """Wait for the "closed" line of a connection and return it; its reason must be the one given.

        `peer` as a keyword asks for the line of one client: `closed("eof", peer=name_of(client))`.
        """
        line = self.wait_for("closed", count=count, since=since, within=within, **fields)
        assert reason is None or line["reason"] == reason, line
        return line

    # ---- addresses and clients

    @property
    def addresses(self) -> list[str]:
        """The real address of every listener, in order."""
        return [line["address"] for line in self.logged("listening")]

    def address(self, index: int = 0) -> str:
        return self.addresses[index]

    def port(self, index: int = 0) -> int:
        return int(self.addresses[index].rpartition(":")[2])

    def sockaddr(self, index: int = 0):
        """Return (family, kind, what connect() takes)."""
        scheme, _, rest = self.addresses[index].partition(":")
        kind = socket.SOCK_DGRAM if scheme in ("udp", "unixgram") else socket.SOCK_STREAM
        if scheme in ("unix", "unixgram"):
            return socket.AF_UNIX, kind, rest
        host, _, port = rest.removeprefix("//").rpartition(":")
        host = host.strip("[]")
        any_host = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return family, kind, (any_host.get(host, host), int(port))

    def connect(self, index: int = 0, *, before=lambda sock: None, timeout: float = CLIENT_TIMEOUT_S) -> socket.socket:
        """Return a socket connected to a listener, closed at the end of the test.

        Args:
            before: called with the socket before it connects, to set options or to bind.
        """
        family, kind, name = self.sockaddr(index)
        sock = self._clients.enter_context(socket.socket(family, kind))
        before(sock)
        sock.connect(name)  # without a limit: serving.Client says why
        sock.settimeout(timeout)
        return sock

    def ask(self, data: bytes, index: int = 0, size: int = 65536) -> bytes:
        """Send to a fresh connection and return the first bytes of the answer."""
        with self.connect(index) as sock:
            sock.sendall(data)
            return sock.recv(size)

    # ---- what /proc tells

    def cpu_seconds(self) -> float:
        """User and system time so far, of every thread."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    # ---- the end

    def let_clients_go(self) -> None:
        self._clients.close()

    def stop(self, number: int = signal.SIGTERM, within: float = 30) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(within)
        finally:
            self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """Make sure that it is gone, reaped, and its log read to the end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(WITHIN_S)
        self.process.stderr.close()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether the large counts are asked for (SOCKD_SOAK=1)."""
    return SOAK


@pytest.fixture(scope="session")
def multiplexer() -> str:
    """The multiplexer that the suite runs under."""
    return os.environ.get("SOCKD_MULTIPLEXER") or "auto"


@pytest.fixture(scope="session")
def sockd_script() -> str:
    return _script("sockd")


@pytest.fixture(scope="session")
def sockctl_script() -> str:
    return _script("sockctl")


@pytest.fixture
def daemon(tmp_path, sockd_script, multiplexer):
    """Start daemons: `daemon("tcp://127.0.0.1:0=upper")`, or `daemon(toml=..., app=...)`.

    Args of the call:
        listen: any number of ADDRESS=SERVICE.
        toml: text of sockd.toml, in place of these or with them.
        app: text of app.py beside it.
        arguments: further words of the command line.
        multiplexer: in place of the suite's.
        listeners: how many "listening" lines to wait for; counted if not given.
        descriptors: RLIMIT_NOFILE.
        prefix: words before the command, as `ip netns exec NAME`.
        environment: variables added.
        may_die: whether the test itself ends it, or it may fail.
    """
    default_multiplexer = multiplexer
    directories = itertools.count()
    with ExitStack() as stack:

        def start(
            *listen: str,
            toml: str = "",
            app: str = "",
            arguments=(),
            multiplexer: str | None = None,
            listeners: int | None = None,
            descriptors: int | None = None,
            prefix=(),
            environment=None,
            may_die: bool = False,
        ) -> Daemon:
            directory = tmp_path / f"daemon{next(directories)}"
            directory.mkdir()
            command = [*prefix, sockd_script, *STAY_ROOT, "--foreground", "--log-format", "json"]
            command += ["--multiplexer", multiplexer or default_multiplexer]
            if app:
                (directory / "app.py").write_text(app)
            if toml:
                (directory / "sockd.toml").write_text(toml)
                command += ["--config", "sockd.toml"]
            for one in listen:
                command += ["--listen", one]
            command += arguments
            if listeners is None:
                tables = tomllib.loads(toml).get("listen", [])
                listeners = len(listen) + sum(len(table.get("addresses", [""])) for table in tables)

            def limit() -> None:
                if descriptors is not None:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

            one = Daemon(command, directory, listeners=listeners, environment=environment or {}, before=limit)
            stack.callback(_end, one, may_die)
            return one

        yield start


def _end(one: Daemon, may_die: bool) -> None:
    one.let_clients_go()
    alive = one.process.poll() is None
    try:
        code = one.stop(signal.SIGQUIT) if alive else one.process.returncode
    finally:
        one.kill()
    is_slow = alive and code == -signal.SIGQUIT and one.logged("stopped")  # a busy machine: Python's end took too long
    if not may_die and not is_slow:
        assert code == 0, f"exit code {code}: {one.lines[-20:]} {one.other[-20:]}"
    assert one.other == []


@pytest.fixture(scope="session")
def until():
    """`until(lambda: condition, within=10)`: ask again until it is true; returns what it told."""
    return _until


@pytest.fixture(scope="session")
def read_to_end():
    """`read_to_end(sock)`: every byte until the end of file."""

    def read(sock: socket.socket) -> bytes:
        pieces = []
        while piece := sock.recv(1 << 18):
            pieces.append(piece)
        return b"".join(pieces)

    return read


@pytest.fixture(scope="session")
def read_exactly():
    """`read_exactly(sock, size)`: that many bytes, fewer only at an end of file."""

    def read(sock: socket.socket, size: int) -> bytes:
        pieces = []
        while size and (piece := sock.recv(min(size, 1 << 18))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    return read


@pytest.fixture(scope="session")
def nothing_comes():
    """`nothing_comes(sock, seconds)`: neither a byte nor an end within this time."""

    def wait(sock: socket.socket, seconds: float) -> None:
        sock.settimeout(seconds)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(CLIENT_TIMEOUT_S)

    return wait


@pytest.fixture(scope="session")
def reset():
    """`reset(sock)`: close it with RST (SO_LINGER, 0 seconds)."""

    def close(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()

    return close


@pytest.fixture(scope="session")
def name_of():
    """`name_of(sock)`: a client's own address as sockd writes it, for `peer=` of its log lines."""

    def name(sock: socket.socket) -> str:
        host, port = sock.getsockname()[:2]
        return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"

    return name


# ---- a network of its own


class Network:
    """Two network namespaces and a wire between them; the daemon in one, its peer in the other.

    Attributes:
        prefix: words that start a program on the daemon's side.
        here, there: address of the daemon's side and of the peer's.
    """

    def __init__(self, stack: ExitStack) -> None:
        tag = f"sockd{os.getpid()}"
        self.daemon_name, self.peer_name = f"{tag}d", f"{tag}p"
        self.here, self.there = "192.0.2.1", "192.0.2.2"  # RFC 5737
        self.prefix = ("ip", "netns", "exec", self.daemon_name)
        for name in (self.daemon_name, self.peer_name):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
        _ip("-n", self.daemon_name, "link", "add", "wire", "type", "veth", "peer", "wire", "netns", self.peer_name)
        for name, address in ((self.daemon_name, self.here), (self.peer_name, self.there)):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "wire", "up")

    def silence(self) -> None:
        """Let nothing of the peer out any more: what the daemon sends arrives, and no answer comes back."""
        hardware = json.loads(_ip("-j", "-n", self.peer_name, "link", "show", "wire"))[0]["address"]
        _ip("-n", self.daemon_name, "neighbour", "replace", self.there, "lladdr", hardware, "dev", "wire")
        _ip("-n", self.peer_name, "route", "add", "blackhole", f"{self.here}/32")

    def speak(self) -> None:
        """Undo silence()."""
        _ip("-n", self.peer_name, "route", "delete", "blackhole", f"{self.here}/32")

    def cut(self) -> None:
        """Pull the plug on the peer's side."""
        _ip("-n", self.peer_name, "link", "set", "wire", "down")

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Make a socket on the peer's side."""
        return self._inside(self.peer_name, lambda: socket.socket(family, kind))

    def connect(self, port: int, timeout: float = CLIENT_TIMEOUT_S) -> socket.socket:
        """Connect from the peer's side to a port of the daemon's."""
        sock = self.socket()
        try:
            sock.settimeout(timeout)
            sock.connect((self.here, port))
        except BaseException:
            sock.close()
            raise
        return sock

    @staticmethod
    def _inside(name: str, make):
        """Call in a thread that has entered the namespace; a socket stays where it was made (setns(2))."""
        made, failed = [], []

        def run() -> None:
            fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) < 0:
                    raise OSError(ctypes.get_errno(), "setns")
                made.append(make())
            except OSError as error:
                failed.append(error)
            finally:
                os.close(fd)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=WITHIN_S)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture
def network():
    """Two namespaces joined by a veth pair; skipped where they cannot be made."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip(8), of iproute2")
    with ExitStack() as stack:
        try:
            made = Network(stack)
        except OSError as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        yield made


# ---- faults


@pytest.fixture
def inject(tmp_path):
    """`with inject(daemon, "accept4", "EMFILE", "1..20") as count:` fails system calls by strace(1).

    "retval=0" in place of an error has them succeed without being done.
    `count()` tells how many have been failed so far.
    """
    if shutil.which("strace") is None:
        pytest.skip("needs strace(1)")
    files = itertools.count()

    @contextlib.contextmanager
    def attach(one: Daemon, call: str, error: str, when: str = "1..20"):
        path = tmp_path / f"strace{next(files)}"
        words = ["strace", "-f", "-p", str(one.pid), "-o", str(path)]
        fault = error if "=" in error else f"error={error}"
        words += ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={when}"]
        tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        try:
            first = tracer.stderr.readline()
            if "attached" not in first:
                pytest.skip(f"strace cannot attach here: {first.strip()}")
            yield lambda: path.read_text().count("(INJECTED)")
        finally:
            tracer.terminate()
            tracer.wait(WITHIN_S)
            tracer.stderr.close()

    return attach


# ---- the daemon's own sockets, the wire, and files of /etc


QUIET_S = 0.3
"""Longer than a delayed acknowledgement, 200 ms at most (TCP_DELACK_MAX)."""
SO_ATTACH_FILTER = 26
PIDFD_GETFD = 438
"""pidfd_getfd(2), the same number on every architecture; Linux 5.6."""


@pytest.fixture
def sockets_of():
    """`sockets_of(daemon)`: copies of its IP sockets, for getsockopt(); skipped where it cannot be traced."""
    with ExitStack() as stack:

        def copies(one: Daemon) -> list[socket.socket]:
            call = ctypes.CDLL(None, use_errno=True).syscall
            pidfd = os.pidfd_open(one.pid)
            stack.callback(os.close, pidfd)
            found = []
            for number in os.listdir(f"/proc/{one.pid}/fd"):
                if not os.readlink(f"/proc/{one.pid}/fd/{number}").startswith("socket:"):
                    continue
                fd = call(PIDFD_GETFD, pidfd, int(number), 0)
                if fd < 0:
                    pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
                found.append(stack.enter_context(socket.socket(fileno=fd)))
            return [sock for sock in found if sock.family != socket.AF_UNIX]

        yield copies


class Segment(NamedTuple):
    """A TCP segment on the wire; `size` is its bytes of data."""

    source: int
    target: int
    flags: int
    size: int


def only_port(sock: socket.socket, port: int) -> None:
    """Have the kernel pass TCP of one port alone (SO_ATTACH_FILTER, socket(7)): others may be busy on loopback."""
    program = [
        (0x30, 0, 0, 9),  # the protocol of the IPv4 header
        (0x15, 0, 6, socket.IPPROTO_TCP),  # else to the last
        (0xB1, 0, 0, 0),  # the size of that header
        (0x48, 0, 0, 0),  # behind it, the source port
        (0x15, 2, 0, port),
        (0x48, 0, 0, 2),  # the destination port
        (0x15, 0, 1, port),
        (0x06, 0, 0, 0x40000),  # pass
        (0x06, 0, 0, 0),  # drop
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))


@pytest.fixture
def wire():
    """`take = wire(port)`: watch loopback; `take()` returns the segments of that port since, once it is quiet."""
    with ExitStack() as stack:

        def watch(port: int):
            try:
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)  # packet(7): nothing comes before bind
            except PermissionError:
                pytest.skip("to watch packets needs CAP_NET_RAW")
            stack.enter_context(sock)
            only_port(sock, port)
            sock.bind(("lo", 0x0800))  # ETH_P_IP

            def take() -> list[Segment]:
                seen: list[Segment] = []
                end = time.monotonic() + QUIET_S
                while (left := end - time.monotonic()) > 0:
                    sock.settimeout(left)
                    try:
                        packet = sock.recv(65_535)
                    except TimeoutError:
                        break
                    tcp = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
                    source, target = struct.unpack_from("!HH", tcp)
                    seen.append(Segment(source, target, tcp[13], len(tcp) - (tcp[12] >> 4) * 4))
                    end = time.monotonic() + QUIET_S
                return seen

            return take

        yield watch


@pytest.fixture
def etc(tmp_path):
    """`etc(hosts=..., services=..., nameserver=...)`: words that run a program with these in place of /etc's.

    `nameserver` is an address whose port 53 is asked, with a time-out of 30 seconds.
    """

    def prefix(*, hosts: str | None = None, services: str | None = None, nameserver: str | None = None):
        files = {"hosts": hosts, "services": services}
        if nameserver:
            files["resolv.conf"] = f"nameserver {nameserver}\noptions timeout:30 attempts:1\n"
        words = []
        for name, text in files.items():
            if text is not None:
                (tmp_path / name).write_text(text)
                words.append(f"mount --bind {tmp_path}/{name} /etc/{name} && ")
        script = "".join(words) + 'exec "$@"'
        command = ("unshare", "-m", "sh", "-c", script, "sh")
        try:
            done = subprocess.run([*command, "true"], capture_output=True, timeout=WITHIN_S)
        except FileNotFoundError:
            pytest.skip("needs unshare(1), of util-linux")
        if done.returncode:
            pytest.skip(f"a mount namespace cannot be made here: {done.stderr.decode().strip()}")
        return command

    return prefix
