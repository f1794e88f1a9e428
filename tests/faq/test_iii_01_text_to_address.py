# SPDX-License-Identifier: MIT
# Seen failing against a client that looks up in the thread that waits (it hangs for the resolver's 30 seconds), one
# that tries the first address only, and a daemon that looks names of clients up while it accepts.
"""FAQ III.1: numeric first, then names, never blocking the loop, every address tried."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

HANGS_S = 30  # of the resolver's own time-out
BOUND_S = 5  # of what must not hang with it


@pytest.fixture
def sockctl(sockctl_script):
    def run(*words, prefix=(), input=b"hello\n"):
        return subprocess.run([*prefix, sockctl_script, *words], input=input, capture_output=True, timeout=HANGS_S)

    return run


@pytest.fixture
def silent():
    """A name server that never answers: 127.53.x.y, so that several runs do not meet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for last in range(1, 255):
            try:
                sock.bind((f"127.53.0.{last}", 53))
            except PermissionError:
                pytest.skip("port 53 needs root")
            except OSError:
                continue
            break
        yield sock


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://[::1]:0"])
def test_numbers_need_no_resolver(daemon, sockctl, etc, silent, address):
    one = daemon(f"{address}=upper")
    prefix = etc(nameserver=silent.getsockname()[0], hosts="")
    begin = time.monotonic()
    done = sockctl("connect", one.address(), prefix=prefix)
    assert (done.returncode, done.stdout) == (0, b"HELLO\n")
    assert time.monotonic() - begin < BOUND_S
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):  # nobody asked it anything
        silent.recv(512)


def test_a_name_gives_every_address_and_each_is_tried(daemon, sockctl, etc):
    """The first two refuse, the third answers."""
    one = daemon("tcp://127.0.0.13:0=upper")
    prefix = etc(hosts="127.0.0.11 many.test\n127.0.0.12 many.test\n127.0.0.13 many.test\n")
    done = sockctl("connect", f"tcp://many.test:{one.port()}", prefix=prefix)
    assert (done.returncode, done.stdout) == (0, b"HELLO\n")


def test_an_unknown_name_is_said_to_be_unknown(sockctl, etc):
    done = sockctl(
        "connect", "tcp://no-such-host.test:7000", prefix=etc(hosts="127.0.0.1 localhost\n", nameserver="127.0.0.1")
    )
    assert done.returncode in (71, 75)
    assert b"host 'no-such-host.test'" in done.stderr


def test_a_resolver_that_hangs_costs_the_time_out_and_no_more(sockctl, etc, silent):
    prefix = etc(nameserver=silent.getsockname()[0])
    begin = time.monotonic()
    done = sockctl("connect", "--timeout", "500ms", "tcp://slow.test:7000", prefix=prefix)
    assert 0.5 <= time.monotonic() - begin < BOUND_S
    assert done.returncode == 75
    assert b"the resolver gave no answer for 'slow.test'" in done.stderr
    silent.settimeout(BOUND_S)
    assert b"slow" in silent.recv(512)  # it was asked


def test_a_resolver_that_hangs_does_not_stop_the_loop(daemon, etc, silent):
    """`names = true` has the daemon ask for each client, and each client is answered meanwhile."""
    toml = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\nnames = true\n'
    one = daemon(toml=toml, prefix=etc(nameserver=silent.getsockname()[0], hosts=""))
    begin = time.monotonic()
    for number in range(1, 21):  # more than there are threads to ask
        source = (f"127.0.1.{number}", 0)
        client = one.connect(before=lambda sock, source=source: sock.bind(source))
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
    assert time.monotonic() - begin < BOUND_S
    silent.settimeout(BOUND_S)
    assert b"in-addr" in silent.recv(512)  # it was asked
