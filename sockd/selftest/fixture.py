# SPDX-License-Identifier: MIT
"""The environment of a check: the shared daemon, further ones, and sockets that are closed afterwards."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sockd.selftest.daemon_process import DaemonProcess
from sockd.selftest.peer import dial, has_ipv6

if TYPE_CHECKING:
    import socket

MODULE = "sockd.selftest.services"
SMALLEST_BUFFER = 4608
"""SOCK_MIN_SNDBUF of Linux; the kernel gives no less."""


def listen(service: str, *more: str, address: str = "tcp://127.0.0.1:0") -> str:
    """Write a [[listen]]."""
    return "\n".join(["[[listen]]", f'address = "{address}"', f'service = "{service}"', *more, ""])


def table(name: str, *lines: str) -> str:
    """Write a [service.NAME]."""
    return "\n".join([f"[service.{name}]", *lines, ""])


def handler(name: str, *more: str, attribute: str = "") -> str:
    """Write a listener on 127.0.0.1 and a service of this package's handlers."""
    return listen(name, *more) + table(name, f'handler = "{MODULE}:{attribute or name}"')


class Fixture:
    """The daemons and sockets of one run."""

    def __init__(self) -> None:
        self._run = ExitStack()
        self._check = ExitStack()
        self.directory = Path(self._run.enter_context(tempfile.TemporaryDirectory(prefix="sockd-selftest-")))
        self._main: DaemonProcess | None = None

    def close(self) -> None:
        """Stop every daemon."""
        self.end_check()
        self._run.close()

    def end_check(self) -> None:
        """Close what a check has opened."""
        self._check.close()

    @property
    def main(self) -> DaemonProcess:
        """The daemon that most checks share; started by the first that asks."""
        if self._main is None:
            self._main = DaemonProcess(self._configuration(), self.directory)
            self._run.callback(self._main.stop)
        return self._main

    def _configuration(self) -> str:
        six = [f"{scheme}://127.0.0.1:0" for scheme in ("tcp", "udp")]
        six += [f"unix:{self.directory}/stream", f"unixgram:{self.directory}/datagram"]
        six += ["tcp://[::1]:0", "udp://[::1]:0"] if has_ipv6() else []
        return "\n".join(
            [
                f"[[listen]]\naddresses = {six}\nservice = 'upper'",
                listen("raw"),
                table("raw", 'builtin = "echo"'),
                listen("raw", address="udp://127.0.0.1:0"),
                handler("big", f"send_buffer = {SMALLEST_BUFFER}"),
                handler("last", attribute="big_and_close"),
                handler("abort"),
                handler("options"),
                handler("delayed", "nodelay = false", attribute="options"),
                handler("records", attribute="Records"),
                handler("stay", attribute="Stay"),
                handler("named", "names = true", attribute="peer"),
                handler("peer"),
                listen("peer", address=f"unix:{self.directory}/peer"),
                listen("proxy"),
                table("proxy", 'socks = { allow = ["loopback"] }'),
                listen("guarded"),
                table("guarded", "socks = {}"),
                listen("hasty"),
                table("hasty", 'builtin = "upper"', "idle_timeout = 0.2"),
            ]
        )

    def start(self, toml: str, daemon: str = "") -> DaemonProcess:
        """Start a daemon for one check."""
        child = DaemonProcess(toml, self.directory, daemon)
        self._check.callback(child.stop)
        return child

    def keep(self, sock: socket.socket) -> socket.socket:
        """Have a socket closed when the check is over."""
        return self._check.enter_context(sock)

    def dial(self, service: str, scheme: str = "tcp", child: DaemonProcess | None = None) -> socket.socket:
        """Connect to a service of the shared daemon, or of another one."""
        return self.keep(dial((child or self.main).endpoint(service, scheme)))
