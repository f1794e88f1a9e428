# SPDX-License-Identifier: MIT
"""Part IV of the FAQ: servers."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from sockd.net.address.address import Address, resolve_endpoints
from sockd.net.kernel import time_wait_count
from sockd.selftest.daemon_process import CheckFailed, DaemonProcess, run_sockd
from sockd.selftest.fixture import MODULE, listen, table
from sockd.selftest.peer import (
    CLOSE_WAIT,
    FIN_WAIT2,
    ask,
    count,
    dial,
    expect,
    name,
    read_all,
    reset,
    until,
)

if TYPE_CHECKING:
    from sockd.selftest.fixture import Fixture

LISTENERS = 200
SHARED = 50


def address_in_use(house: Fixture) -> str:
    """IV.1: the message tells TIME_WAIT from a live holder."""
    configuration = listen("last", "reuse_address = false") + table("last", f'handler = "{MODULE}:big_and_close"')
    first = house.start(configuration)
    endpoint = first.endpoint("last")
    again = configuration.replace("127.0.0.1:0", f"127.0.0.1:{endpoint.port}")
    held = _refused(house, again)
    # A daemon is not dumpable, so only root with its capabilities sees its descriptors (proc(5)).
    known = (f"held by pid {first.pid}", "held by a process that is not visible (try as root)")
    holder = next((words for words in known if words in held), "")
    expect(bool(holder), f"while it runs: {held}")
    with dial(endpoint) as sock:
        sock.sendall(b"1\n")
        read_all(sock)
    until(lambda: time_wait_count(endpoint.port), "no connection is in TIME_WAIT")
    first.stop()
    waiting = _refused(house, again)
    expect("no process holds it: 1 connection in TIME_WAIT" in waiting, f"after it: {waiting}")
    return f"{holder}; after it: 1 connection in TIME_WAIT"


def _refused(house: Fixture, toml: str) -> str:
    """Start a daemon that cannot bind; returns what it says."""
    try:
        DaemonProcess(toml, house.directory).stop()
    except CheckFailed as error:
        return str(error)
    raise CheckFailed("a second daemon could bind the port")


def sockets_close(house: Fixture) -> str:
    """IV.2: after clients that end in every way nothing is left half closed."""
    child = house.start(listen("upper"))
    port = child.port("upper")
    for number in range(60):
        sock = dial(child.endpoint("upper"))
        sock.sendall(b"hello\nhel" if number % 2 else b"hello\n")
        peer = name(sock)
        (reset, socket.socket.close, _shut_and_read)[number % 3](sock)
        child.reason(peer)
    left = {"CLOSE_WAIT": count(port, CLOSE_WAIT), "FIN_WAIT2": count(port, FIN_WAIT2)}
    until(lambda: not count(port, CLOSE_WAIT) and not count(port, FIN_WAIT2), f"connections left: {left}")
    return "60 clients ended in 6 ways, each with one reason; 0 in CLOSE_WAIT, 0 in FIN_WAIT2"


def _shut_and_read(sock: socket.socket) -> None:
    with sock:
        sock.shutdown(socket.SHUT_WR)
        read_all(sock)


def many_ports(house: Fixture) -> str:
    """IV.4: any number of listeners in one process and loop."""
    texts = [f"unix:{house.directory}/{number}" for number in range(LISTENERS)]
    house.start(f"[[listen]]\naddresses = {texts}\nservice = 'upper'\n")
    for text in texts:
        with dial(resolve_endpoints(Address.parse(text), passive=False)[0]) as sock:
            expect(ask(sock) == b"HELLO\n", f"{text} gave a wrong reply")
    return f"{LISTENERS} listeners in one process, each answered"


def reuse_address(house: Fixture) -> str:
    """IV.5: on for TCP, off for UDP; a second daemon on the same port is refused."""
    on = json.loads(ask(house.dial("options")))["reuse_address"]
    expect(on, "SO_REUSEADDR is off for TCP")
    for scheme in ("tcp", "udp"):
        port = house.main.port("upper", scheme)
        said = _refused(house, listen("upper", address=f"{scheme}://127.0.0.1:{port}"))
        expect("EADDRINUSE" in said, f"{scheme}: {said}")
    return "on for TCP; a second daemon is refused on TCP and on UDP"


def linger(house: Fixture) -> str:
    """IV.6: RST when an abort was asked for, and only then."""
    reported = json.loads(ask(house.dial("options")))
    expect(not reported["linger"], "SO_LINGER is set on an accepted connection")
    orderly = house.dial("last")
    orderly.sendall(b"10\n")
    expect(len(read_all(orderly)) == 11, "a close lost the reply")
    aborted = house.dial("abort")
    aborted.sendall(b"now\n")
    try:
        rest = aborted.recv(100)
    except ConnectionResetError:
        return "abort() is RST, close() is not; SO_LINGER is off"
    raise CheckFailed(f"an abort arrived as {rest!r}")


def keepalive(house: Fixture) -> str:
    """IV.7: the probes' timers, read back from an accepted connection."""
    reported = json.loads(ask(house.dial("options")))
    found = {key: reported[key] for key in ("keepalive", "idle", "interval", "count") if key in reported}
    wanted = {"keepalive": 1, "idle": 120, "interval": 30, "count": 4}
    expect(found == {key: wanted[key] for key in found}, f"{found}")
    return f"after {reported.get('idle', '?')} s, every {reported['interval']} s, {reported['count']} times"


def clients_address(house: Fixture) -> str:
    """IV.9: the client's address, to the handler and in the log."""
    sock = house.dial("peer")
    reported = ask(sock).decode().strip()
    expect(reported == name(sock), f"the handler saw {reported}, the client is {name(sock)}")
    sock.close()
    house.main.record("closed", peer=reported)
    unnamed = ask(house.dial("peer", "unix")).decode().strip()
    expect(unnamed == "unix:", f"an unnamed Unix peer is {unnamed}")
    return f"{reported}, the same in the log; an unnamed Unix peer is {unnamed}"


def clients_name(house: Fixture) -> str:
    """IV.10: a name is looked up beside the connection, which does not wait for it."""
    sock = house.dial("named")
    expect(ask(sock).decode().strip() == name(sock), "the first reply is wrong")
    peer = name(sock)
    sock.close()
    found = house.main.record("closed", peer=peer).get("name")
    return "answered at once; " + (
        f"its name is {found}" if found else ("its name was not known when the connection ended")
    )


def choosing_a_port(house: Fixture) -> str:
    """IV.11: a port can be given by the name of its service."""
    by_name = run_sockd("--check", "--listen", "tcp://127.0.0.1:smtp=upper", directory=house.directory)
    expect(by_name.returncode == 0, f"smtp as a port: {by_name.stderr.decode().strip()}")
    by_number = run_sockd("--check", "--listen", "tcp://127.0.0.1:25=upper", directory=house.directory)
    words = by_number.stderr.decode().strip()
    expect(by_number.returncode == 0 and "smtp" in words, f"no note about port 25: {words}")
    return "smtp is accepted as a port; port 25 is reported as that of smtp"


def reuse_port(house: Fixture) -> str:
    """IV.12: with SO_REUSEPORT two daemons share a port, and both get connections."""
    shared = [house.start(listen("upper", "reuse_port = true"))]
    port = shared[0].port("upper")
    shared.append(house.start(listen("upper", "reuse_port = true", address=f"tcp://127.0.0.1:{port}")))
    peers = []
    for _ in range(SHARED):
        with dial(shared[0].endpoint("upper")) as sock:
            expect(ask(sock) == b"HELLO\n", "wrong reply")
            peers.append(name(sock))
    until(lambda: sum(len(one.ended()) for one in shared) == SHARED, "not every connection was logged")
    counts = [len(one.ended()) for one in shared]
    expect(all(counts), f"{counts[0]} and {counts[1]} of {SHARED} connections")
    return f"two daemons on one port got {counts[0]} and {counts[1]} of {SHARED} connections"
