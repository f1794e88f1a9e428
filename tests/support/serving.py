# SPDX-License-Identifier: MIT
"""A daemon as its users have it: a process, its log, real sockets.

`serve` starts one for a test, `shared` is one for each multiplexer that many
tests talk to.  Ports come from the kernel and are read from the log; nothing
waits by sleeping, every wait has a deadline of LIMIT_S.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

LIMIT_S = 30
"""A wait that takes longer is a failure; the tests themselves need a small part of it."""
MULTIPLEXERS = ("auto", "epoll", "poll", "select")
FAMILIES = ("tcp4", "tcp6", "unix")
SMALL = 64  # max_frame of the services whose name ends in _small
STAY_ROOT = ("--user", "root") if os.geteuid() == 0 else ()
"""Root is refused unless told that it may serve; words that name a user override it, for the last one counts."""
APP = Path(__file__).parent.parent / "system" / "app.py"

SERVICES = {
    "upper": 'builtin = "upper"',
    "function": 'handler = "app:upper"',
    "with_connection": 'handler = "app:upper_with_connection"',
    "protocol": 'handler = "app:Upper"',
    "upper_small": f'builtin = "upper"\nmax_frame = {SMALL}',
    "function_small": f'handler = "app:upper"\nmax_frame = {SMALL}',
    "with_connection_small": f'handler = "app:upper_with_connection"\nmax_frame = {SMALL}',
    "protocol_small": f'handler = "app:Upper"\nmax_frame = {SMALL}',
    "echo": 'builtin = "echo"',
    "raw_protocol": 'handler = "app:Echo"',
    "discard": 'builtin = "discard"',
    "act": 'handler = "app:act"',
    "act_with_connection": 'handler = "app:act_with_connection"',
    "act_protocol": 'handler = "app:Act"',
    "question": 'handler = "app:question"',
    "record": 'handler = "app:Record"',
    "half_open": 'handler = "app:HalfOpen"',
    "tight": 'handler = "app:Tight"',
    "idle": 'builtin = "upper"\nidle_timeout = "300ms"',
    "idle_function": 'handler = "app:upper"\nidle_timeout = "300ms"',
    "crlf": 'handler = "app:crlf"',
}
DATAGRAMS = ("upper", "echo", "discard", "function", "act")  # of these, also on udp4, udp6 and unixgram


def sockaddr_of(address):
    """(family, type, sockaddr) of an address as sockd prints it."""
    scheme, _, rest = address.partition(":")
    kind = socket.SOCK_DGRAM if scheme in ("udp", "unixgram") else socket.SOCK_STREAM
    if scheme.startswith("unix"):
        return socket.AF_UNIX, kind, rest
    host, _, port = rest.removeprefix("//").rpartition(":")
    if host.startswith("["):
        return socket.AF_INET6, kind, (host[1:-1], int(port))
    return socket.AF_INET, kind, (host, int(port))


class Client:
    """One connection, seen from the peer; every read and write has a deadline."""

    def __init__(self, address, **options):
        family, kind, sockaddr = sockaddr_of(address)
        self.sock = socket.socket(family, kind)
        try:
            for name, value in options.items():
                self.sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
            if family != socket.AF_UNIX and "SO_RCVBUF" in options:
                # Segments far smaller than the window: else loopback's 64 KiB ones wait for timers (RFC 1122, 4.2.3.4).
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            # Without a limit: with one, Python asks for SO_ERROR behind poll(2), and a daemon that resets at once, as a
            # relay without a target does, may be faster: then it is connect() that says so, and recv() has an end.
            self.sock.connect(sockaddr)
            self.sock.settimeout(LIMIT_S)
            if family != socket.AF_UNIX and kind == socket.SOCK_STREAM:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.sock.close()
            raise
        self.file = self.sock.makefile("rb")
        self.name = ""  # as the daemon prints its peer
        if family != socket.AF_UNIX:
            host, port = self.sock.getsockname()[:2]
            self.name = f"tcp://[{host}]:{port}" if family == socket.AF_INET6 else f"tcp://{host}:{port}"

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        return self.file.readline()

    def lines(self, count):
        return [self.line() for _ in range(count)]

    def ask(self, line):
        self.send(line + b"\n")
        return self.line().removesuffix(b"\n")

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def to_end(self):
        return self.file.read()

    def finish_with(self, data):
        """Send data and FIN, take what comes until the daemon's."""
        self.send(data)
        return self.finish()

    def finish(self):
        """Send FIN, take what comes until the daemon's."""
        self.half_close()
        return self.to_end()

    def reset(self):
        """Close so that TCP sends RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()


class Server:
    """A `sockd` process and everything it says."""

    def __init__(self, words, directory, environment=None, **options):
        stay = () if "executable" in options else STAY_ROOT  # another program's words are its own
        command = [shutil.which("sockd", path=os.path.dirname(sys.executable)), *stay, *map(str, words)]
        assert command[0], "sockd is not installed beside this Python"
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that end() finds what it started
            **options,
        )
        self.output: list[str] = []  # lines of standard output
        self.words: list[str] = []  # lines of standard error that are not events
        self.events: list[dict] = []
        self.ends: dict[str, dict] = {}  # "closed" events by peer
        self._open = 2
        self._news = threading.Condition()
        self._clients = ExitStack()
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._take_output)),
            threading.Thread(target=self._read, args=(self.process.stderr, self._take_error)),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, pipe, take):
        with pipe:
            for line in pipe:
                with self._news:
                    take(line.decode().rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def _take_output(self, line):
        self.output.append(line)

    def _take_error(self, line):
        if not line.startswith("{"):
            self.words.append(line)
            return
        event = json.loads(line)
        self.events.append(event)
        if event["message"] == "closed":
            self.ends[event["peer"]] = event

    def said(self):
        return "\n".join([*self.output, *self.words, *map(json.dumps, self.events[-50:])])

    def wait_until(self, condition, what, limit=LIMIT_S):
        """Wait until a condition on the above holds; an end of the process before it is a failure."""
        with self._news:
            until = time.monotonic() + limit
            while not (found := condition()):
                left = until - time.monotonic()
                if left <= 0 or not self._open:
                    pytest.fail(f"waited in vain for {what}; sockd said:\n{self.said()}")
                self._news.wait(left)
            return found

    def ready(self, quiet=False):
        """Wait until it serves, and until the log has told of every listener that the screen shows."""
        self.wait_until(lambda: "Press Ctrl-C to stop." in self.output, "the greeting")
        count = sum(bool(re.search(r"   (sockctl connect|curl https?:)", line)) for line in self.output)
        self.wait_until(lambda: quiet or len(self.addresses) == count, "the listeners in the log")
        return self

    def having(self, message, **fields):
        return [e for e in self.events if e["message"] == message and all(e.get(k) == v for k, v in fields.items())]

    def wait_for(self, message, count=1, **fields):
        """The count-th event of that message and these fields."""

        def found():
            events = self.having(message, **fields)
            return events[count - 1] if len(events) >= count else None

        return self.wait_until(found, f"{count} x {message} {fields}")

    def end_of(self, client):
        """Close a client's TCP connection, if it is open still; the event of its end."""
        client.close()
        event = self.wait_until(lambda: self.ends.get(client.name), f"the end of {client.name}")
        del self.ends[client.name]
        return event

    @property
    def addresses(self):
        return [e["address"] for e in self.events if e["message"] == "listening"]

    def address(self, service, family):
        """Where the one listener of a service and family listens."""
        wanted = {"4": r"(tcp|udp)://127", "6": r"(tcp|udp)://\[", "x": "unix:", "m": "unixgram:"}[family[-1]]
        wanted = wanted.replace("(tcp|udp)", family[:3])
        (found,) = {a["address"] for a in self.having("listening", service=service) if re.match(wanted, a["address"])}
        return found

    def connect(self, address=None, **options):
        client = Client(address or self.addresses[0], **options)
        self.ends.pop(client.name, None)
        self._clients.callback(client.close)
        return client

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, limit=LIMIT_S):
        """Its exit code; all it said has been read."""
        code = self.process.wait(limit)
        for thread in self._threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), "another process still holds the pipes of sockd"
        return code

    def stop(self):
        self._clients.close()
        self.signal()
        code = self.wait()
        assert code == 0, self.said()

    def end(self):
        """Leave nothing behind, whatever state the test left it in."""
        self._clients.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()


@pytest.fixture(scope="session")
def files():
    """Allow this process the descriptors of 1,100 clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"needs 4096 descriptors, the limit is {hard}")
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def launch(tmp_path):
    """Start `sockd WORDS` in tmp_path, where app.py stands; it may end by itself."""
    shutil.copy(APP, tmp_path / "app.py")
    with ExitStack() as stack:

        def start(*words, **options):
            server = Server(words, tmp_path, **options)
            stack.callback(server.end)
            return server

        yield start


@pytest.fixture
def serve(launch, tmp_path):
    """Start `sockd --foreground` and return it when it listens.

    serve("tcp://127.0.0.1:0=upper", ...) or serve(config="...", ...).
    """
    with ExitStack() as stack:

        def start(*listens, config=None, options=(), quiet=False, **more):
            words = ["--foreground", "--log-format", "json", *options]
            for listen in listens:
                words += ["--listen", listen]
            if config is not None:
                (tmp_path / "sockd.toml").write_text(config)
                words += ["-c", "sockd.toml"]
            server = launch(*words, **more).ready(quiet)
            stack.callback(lambda: server.process.returncode is None and server.stop())
            return server

        yield start


@pytest.fixture(scope="session")
def has_ipv6():
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.fixture(scope="session", params=MULTIPLEXERS)
def shared(request, tmp_path_factory, has_ipv6):
    """One daemon for each multiplexer, with every service on every family."""
    directory = tmp_path_factory.mktemp(request.param)
    shutil.copy(APP, directory / "app.py")
    config = [f'[daemon]\nmultiplexer = "{request.param}"\n']
    for name, table in SERVICES.items():
        tcp6 = '"tcp://[::1]:0", ' if has_ipv6 else ""
        addresses = f'["tcp://127.0.0.1:0", {tcp6}"unix:{directory}/{name}"]'
        config.append(f'[[listen]]\naddresses = {addresses}\nservice = "{name}"\n')
        if name in DATAGRAMS:
            udp6 = tcp6.replace("tcp", "udp")
            addresses = f'["udp://127.0.0.1:0", {udp6}"unixgram:{directory}/{name}.dgram"]'
            config.append(f'[[listen]]\naddresses = {addresses}\nservice = "{name}"\n')
        linger = "" if "linger" in table else 'linger_timeout = "60s"\n'
        config.append(f"[service.{name}]\n{table}\n{linger}")
    (directory / "sockd.toml").write_text("\n".join(config))
    server = Server(["-f", "--log-format", "json", "-c", "sockd.toml"], directory)
    try:
        server.ready()
        server.multiplexer = request.param
        yield server
        assert server.process.poll() is None, server.said()
        server.stop()
    finally:
        server.end()


@pytest.fixture(params=FAMILIES)
def family(request, has_ipv6):
    if request.param == "tcp6" and not has_ipv6:
        pytest.skip("this host has no IPv6")
    return request.param


@pytest.fixture
def client(shared):
    """Connect to a service of the shared daemon; closed at the end of the test."""
    with ExitStack() as stack:

        def connect(service, family="tcp4", **options):
            one = Client(shared.address(service, family), **options)
            shared.ends.pop(one.name, None)
            stack.callback(one.close)
            return one

        yield connect


@pytest.fixture
def asking(client):
    """Ask the daemon's own memory a question: what app.py's `question` knows."""
    return client("question").ask


class Fifo:
    """Holds the daemon's loop still: app.py's `hold` reads from it until release()."""

    def __init__(self, directory):
        name = directory / "fifo"
        os.mkfifo(name)
        self.path = os.fsencode(name)
        self._fd = -1

    def wait_for_reader(self):
        """Opening it to write returns when the daemon has opened it to read."""
        self._fd = os.open(self.path, os.O_WRONLY)

    def release(self, words):
        os.write(self._fd, words)
        os.close(self._fd)


@pytest.fixture
def fifo(tmp_path):
    return Fifo(tmp_path)
