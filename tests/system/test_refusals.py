# SPDX-License-Identifier: MIT
"""Clients that are not served: what each of 1,357 has seen is what status, page, metrics and log say, by reason.

Seen failing before counts passed over an upgrade, before what the log holds back was written, and before TLS and PROXY
counted.
"""

from __future__ import annotations

import json
import re
import socket
from contextlib import ExitStack, suppress
from urllib.request import urlopen

import pytest
from controlling import Sockctl

WAYS = {
    "denied": (307, 'deny = ["127.0.0.2"]'),
    "rate": (250, 'rate = { connections = 1, per = "24h", burst = 3 }'),
    "per-source": (200, "max_connections_per_source = 2"),
    "full": (200, 'max_connections = 2\nat_limit = "refuse"'),
    "tls": (200, 'tls = { certificate = "localhost.pem", key = "localhost.key" }'),
    "proxy": (200, 'proxy_protocol = { from = ["127.0.0.0/8"] }'),
}
LATER = 20
"""More of each, after a reload and an upgrade."""


class House:
    """A daemon with a listener for each way to turn a client away, and clients that count for themselves."""

    def __init__(self, server, sockctl, stack):
        self.server, self.sockctl, self._stack = server, sockctl, stack
        metrics, *others = server.addresses
        self.pages = f"http://{metrics.removeprefix('tcp://')}"
        self.addresses = dict(zip(WAYS, others, strict=True))
        self.seen = dict.fromkeys(WAYS, 0)

    def come(self, reason, clients):
        """Let so many clients be turned away, and those that are served meanwhile stay."""
        until = self.seen[reason] + clients
        for _ in range(clients + 20):  # some are served: the first of a source, the burst, and those of a new process
            if self.seen[reason] == until:
                return
            self.seen[reason] += not self._is_served(reason)
        assert self.seen[reason] == until

    def _is_served(self, reason):
        host, _, port = self.addresses[reason].removeprefix("tcp://").rpartition(":")
        sock = socket.socket()
        sock.settimeout(30)
        if reason == "denied":
            sock.bind(("127.0.0.2", 0))
        with suppress(ConnectionError):
            sock.connect((host, int(port)))
            sock.sendall(b"hello\n")
            if sock.recv(100) == b"HELLO\n":
                self._stack.callback(sock.close)
                return True
        sock.close()
        return False

    # ---- what the daemon says, by the reason

    def of_status(self):
        return self._rows(self.sockctl.ask("status"))

    def of_page(self):
        with urlopen(f"{self.pages}/status.json") as answer:
            return self._rows(json.load(answer))

    def _rows(self, status):
        rows = {row["address"]: row["refused"] for row in status["listeners"]}
        assert sum(map(sum, (one["refused"].values() for one in status["services"].values()))) == sum(
            map(sum, (row.values() for row in rows.values()))
        )
        return {reason: rows[address] for reason, address in self.addresses.items()}

    def of_metrics(self):
        with urlopen(f"{self.pages}/metrics") as answer:
            text = answer.read().decode()
        found = {reason: {} for reason in WAYS}
        by_address = {address: reason for reason, address in self.addresses.items()}
        for address, reason, count in re.findall(
            r'^sockd_refused_total\{address="(.+?)",service=".+?",reason="(.+?)"\} (\d+)$', text, re.M
        ):
            if address in by_address and int(count):
                found[by_address[address]][reason] = int(count)
        return found

    def of_text(self):
        found = re.findall(r"^(tcp:\S+)  refused: (\S+) (\d+)$", self.sockctl.say("status"), re.M)
        by_address = {address: {reason: int(count)} for address, reason, count in found}
        return {reason: by_address[address] for reason, address in self.addresses.items()}

    def of_log(self):
        found = {reason: {} for reason in WAYS}
        by_address = {address: reason for reason, address in self.addresses.items()}
        for event in self.server.having("refused"):
            counts = found[by_address[event["address"]]]
            counts[event["reason"]] = counts.get(event["reason"], 0) + event["count"]
        return found

    def compare(self):
        seen = {reason: {reason: count} for reason, count in self.seen.items()}
        self.server.wait_until(lambda: self.of_log() == seen, f"{seen} in the log: {self.of_log()}")
        assert self.of_status() == self.of_page() == self.of_metrics() == self.of_text() == seen


@pytest.fixture
def house(serve, tmp_path, certificates):
    """`house(workers)`: a daemon with the six listeners."""
    certificates.new(where=tmp_path)
    with ExitStack() as stack:

        def start(workers=1):
            control = Sockctl(tmp_path)
            text = f'[daemon]\nworkers = {workers}\ncontrol = "{control.path}"\n'
            text += '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "metrics"\n'
            for _, settings in WAYS.values():
                text += f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n{settings}\n'
            return House(serve(config=text), control, stack)

        yield start
        stack.close()
        Sockctl(tmp_path).run("stop")  # the process of the upgrade


@pytest.mark.parametrize("workers", [1, 2])
def test_all_figures_are_what_the_clients_have_seen(house, workers, tmp_path):
    one = house(workers)
    for reason, (clients, _) in WAYS.items():
        one.come(reason, clients)
    assert sum(one.seen.values()) == 1357
    one.compare()
    config = tmp_path / "sockd.toml"
    config.write_text(config.read_text().replace('deny = ["127.0.0.2"]', 'deny = ["127.0.0.2", "127.0.0.3"]'))
    one.sockctl.ask("reload")
    for reason in WAYS:
        one.come(reason, LATER)
    one.compare()
    one.sockctl.ask("upgrade")
    for reason in WAYS:
        one.come(reason, LATER)
    assert sum(one.seen.values()) == 1357 + 2 * 6 * LATER
    one.compare()
    assert one.server.having("closed", reason="refused") == []
