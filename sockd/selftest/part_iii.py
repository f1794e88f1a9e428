# SPDX-License-Identifier: MIT
"""Part III of the FAQ: clients."""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sockd.client.connect import connect, look_up
from sockd.errors import SockdError, TemporaryFault
from sockd.net.address.address import Address, resolve_endpoints
from sockd.net.connect.happy_eyeballs import HEAD_START_S, IP_BIND_ADDRESS_NO_PORT
from sockd.selftest.daemon_process import PATIENCE_SECONDS, CheckFailed, run_sockctl
from sockd.selftest.fixture import listen
from sockd.selftest.peer import LISTEN, Skip, ask, dial, expect, has_ipv6, kernel_rows, read_line

if TYPE_CHECKING:
    from sockd.net.address.sockaddr import Endpoint
    from sockd.selftest.fixture import Fixture

BACKLOG = 5
TIMEOUT_SECONDS = 0.3
LOOPBACK = b"\x7f\0\0\x01"
UNKNOWN = "no-such-host.invalid"
"""RFC 6761, 6.4: never exists."""


def text_to_address(_house: Fixture) -> str:
    """III.1: numbers first and without a resolver; a name gives every address; an unknown one is said to be unknown."""
    numbers = [
        str(resolve_endpoints(Address.parse(text), passive=False)[0]) for text in ("tcp://127.0.0.1:1", "tcp://[::1]:1")
    ]
    expect(numbers == ["tcp://127.0.0.1:1", "tcp://[::1]:1"], f"the numeric addresses became {numbers}")
    found = look_up(Address.parse("tcp://localhost:1"), timeout=PATIENCE_SECONDS)
    begin = time.monotonic()
    try:
        look_up(Address.parse(f"tcp://{UNKNOWN}:1"), timeout=1)
    except SockdError as error:
        elapsed = time.monotonic() - begin
        expect(UNKNOWN in str(error) and elapsed < 2, f"after {elapsed:.1f} s: {error}")
    else:
        raise CheckFailed(f"{UNKNOWN} was found")
    return f"localhost has {len(found)} address{'es' * (len(found) > 1)}; {UNKNOWN} is not found, after {elapsed:.1f} s"


def firewalls(house: Fixture) -> str:
    """III.2: through a SOCKS server of each version to an address that a rule names, and to none without one."""
    port = house.main.port("upper").to_bytes(2, "big")
    requests = {
        "4": b"\x04\x01" + port + LOOPBACK + b"\0",
        "4a": b"\x04\x01" + port + b"\0\0\0\x01\x00localhost\0",
        "5": b"\x05\x01\0\x05\x01\0\x01" + LOOPBACK + port,
    }
    for version, request in requests.items():
        greeting = 2 if version == "5" else 0
        reply = greeting + (10 if version == "5" else 8)
        with house.dial("proxy") as sock:
            sock.sendall(request + b"hello\n")
            answer = _read(sock, reply)
            expect(answer[greeting + 1 : greeting + 2] in (b"\0", b"\x5a"), f"SOCKS {version}: {answer!r}")
            expect(read_line(sock) == b"HELLO\n", f"SOCKS {version}: wrong reply")
        with house.dial("guarded") as sock:
            sock.sendall(request)
            answer = _read(sock, reply)
            expect(answer[greeting + 1 : greeting + 2] in (b"\x02", b"\x5b"), f"without a rule: {answer!r}")
    return f"HELLO through SOCKS {', '.join(requests)}; loopback is refused unless a rule names it"


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def connect_before_accept(house: Fixture) -> str:
    """III.3: connections complete while the daemon is stopped, and wait in a queue of known length."""
    child = house.start(listen("upper", f"backlog = {BACKLOG}"))
    port = child.port("upper")
    child.freeze()
    waiting = [house.dial("upper", child=child) for _ in range(BACKLOG)]
    for sock in waiting:
        sock.sendall(b"hello\n")
    (queued,) = (row.receive_queue for row in kernel_rows(port) if row.state == LISTEN)
    child.thaw()
    expect(all(read_line(sock) == b"HELLO\n" for sock in waiting), "not all of them were answered afterwards")
    expect(queued == BACKLOG, f"{queued} in the accept queue, {BACKLOG} connected")
    return f"{queued} connected while it was stopped, all answered afterwards"


def several_hosts(_house: Fixture) -> str:
    """III.4: an answer is a value; a second look-up does not change the first."""
    texts = ["tcp://127.0.0.1:1", "tcp://127.0.0.2:2", "tcp://localhost:3"] * 10
    answers: dict[int, list[Endpoint]] = {}

    def find(index: int) -> None:
        answers[index] = look_up(Address.parse(texts[index]), timeout=PATIENCE_SECONDS)

    threads = [threading.Thread(target=find, args=(index,)) for index in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, text in enumerate(texts):
        found = [str(endpoint) for endpoint in answers.get(index, [])]
        port = Address.parse(text).port
        right = found == [text] or ("localhost" in text and {one.rpartition(":")[2] for one in found} == {str(port)})
        expect(right, f"{text} became {found}")
    return f"{len(texts)} look-ups at once, each with its own result"


def connect_timeout(house: Fixture) -> str:
    """III.5: connect ends at its deadline; a silent first address costs a head start only."""
    silent = _silent(house, socket.AF_INET, "127.0.0.1", 0)
    begin = time.monotonic()
    try:
        connect(Address.parse(f"tcp://127.0.0.1:{silent}"), timeout=TIMEOUT_SECONDS).close()
    except TemporaryFault as error:
        elapsed = time.monotonic() - begin
        expect("timed out" in str(error) and elapsed < TIMEOUT_SECONDS + 1, f"after {elapsed:.2f} s: {error}")
    else:
        raise CheckFailed("a listener whose queue is full was connected to")
    return f"gave up after {elapsed:.2f} of {TIMEOUT_SECONDS} s; {_race(house)}"


def _race(house: Fixture) -> str:
    if not has_ipv6():
        return "no second family to race here"
    port = house.main.port("upper")
    _silent(house, socket.AF_INET6, "::1", port)
    begin = time.monotonic()
    with connect(Address.parse(f"tcp://:{port}"), timeout=PATIENCE_SECONDS) as sock:  # to connect: ::1, then 127.0.0.1
        elapsed = time.monotonic() - begin
        expect(sock.family == socket.AF_INET, "the silent address answered")
    expect(elapsed < HEAD_START_S + 0.5, f"the second address had to wait {elapsed:.2f} s")
    return f"a silent ::1 cost {elapsed:.2f} s"


def _silent(house: Fixture, family: socket.AddressFamily, host: str, port: int) -> int:
    """Make an address that answers no SYN: a listener whose queue is full (listen(2)); returns the port."""
    sock = house.keep(socket.socket(family, socket.SOCK_STREAM))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        raise Skip(f"{host} port {port} cannot be bound: {error}") from None
    sock.listen(0)
    for _ in range(2):  # one more than the backlog, and one that is dropped
        waiting = house.keep(socket.socket(family, socket.SOCK_STREAM))
        waiting.setblocking(False)
        waiting.connect_ex(sock.getsockname())
    return int(sock.getsockname()[1])


def clients_port(house: Fixture) -> str:
    """III.6: the client's port is the system's choice."""
    low, high = _port_range()
    address = Address.parse(house.main.addresses("upper")[0])
    ports = []
    for _ in range(5):
        sock = house.keep(connect(address, timeout=PATIENCE_SECONDS))
        ports.append(sock.getsockname()[1])
    expect(len(set(ports)) == 5 and all(low <= port <= high for port in ports), f"ports {ports}")
    sock = house.keep(connect(address, timeout=PATIENCE_SECONDS, source="127.0.0.1"))
    if sys.platform == "linux":
        late = sock.getsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT)
        expect(late, "bind() of a source address uses a port")
    return f"5 different ports of {low} to {high}; a source address uses none"


def _port_range() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    except OSError:
        return 1024, 65_535
    return int(low), int(high)


def connection_refused(_house: Fixture) -> str:
    """III.7: reported at once, with what was tried, exit code 75."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        text = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        begin = time.monotonic()
        done = run_sockctl("connect", text)
        elapsed = time.monotonic() - begin
    words = done.stderr.decode().strip()
    expect(done.returncode == 75 and f"connection refused: {text}" in words, f"exit code {done.returncode}: {words}")
    return f"exit code 75 after {elapsed:.1f} s, with what was tried"


def transcript(house: Fixture) -> str:
    """Appendix A: upper is the FAQ's server, sockctl connect its client, over TCP and UDP."""
    for scheme in ("tcp", "udp"):
        text = house.main.addresses("upper", scheme)[0]
        done = run_sockctl("connect", text, input=b"Hello world!\nbye\n")
        expect(
            done.stdout == b"HELLO WORLD!\nBYE\n" and done.returncode == 0, f"{text}: {done.stdout!r} {done.stderr!r}"
        )
    with dial(house.main.endpoint("upper", "udp")) as sock:
        expect(ask(sock, b"last\n") == b"LAST\n", "wrong reply over udp")
    return "Hello world! -> HELLO WORLD!, over tcp and udp"
