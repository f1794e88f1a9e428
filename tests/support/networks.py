# SPDX-License-Identifier: MIT
"""A network of a test's own, with addresses that are not loopback's: clients from elsewhere, as a daemon sees them.

`elsewhere` is made anew for each test and gone with it: a network namespace whose interface has these addresses.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import uuid

import pytest

CLONE_NEWNET = 0x40000000  # linux/sched.h
SERVER = "192.0.2.1"  # RFC 5737, RFC 3849: for documentation
SERVER6 = "2001:db8::1"
OTHERS = [f"192.0.2.{number}" for number in range(2, 10)]
OTHERS6 = ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1"]


class Network:
    """The namespace by its name.

    Attributes:
        name: of the namespace, for `ip -n`.
        enter: for `preexec_fn`: a process begins in it.
    """

    def __init__(self, name):
        self.name = name
        self._path = f"/run/netns/{name}"
        self._libc = ctypes.CDLL(None, use_errno=True)

    def enter(self):
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        failed = self._libc.setns(fd, CLONE_NEWNET)
        os.close(fd)
        if failed:
            raise OSError(ctypes.get_errno(), "setns")

    def socket(self, source, kind=socket.SOCK_STREAM):
        """A socket of that network, bound to one of its addresses; a thread of its own goes in and ends there."""
        made = []

        def make():
            self.enter()
            made.append(socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, kind))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        made[0].settimeout(30)
        made[0].bind((source, 0))
        return made[0]


@pytest.fixture
def elsewhere():
    name = f"sockd-{uuid.uuid4().hex[:8]}"
    if shutil.which("ip") is None or subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        pytest.skip("a network namespace cannot be made here")
    try:
        ip = ["ip", "-n", name]
        subprocess.run([*ip, "link", "set", "lo", "up"], check=True)
        for address in [SERVER, *OTHERS]:
            subprocess.run([*ip, "addr", "add", f"{address}/32", "dev", "lo"], check=True)
        for address in [SERVER6, *OTHERS6]:
            command = [*ip, "addr", "add", f"{address}/128", "dev", "lo"]
            if subprocess.run(command, capture_output=True).returncode:
                pytest.skip("there is no IPv6 here")
        yield Network(name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
