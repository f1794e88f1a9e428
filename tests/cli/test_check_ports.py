# SPDX-License-Identifier: MIT
from __future__ import annotations

import sys

import pytest

from sockd.cli import sockd


@pytest.fixture
def check(monkeypatch, capsys):
    def run(*listen):
        monkeypatch.setattr(sys, "path", list(sys.path))
        code = sockd.main(["--check", *(word for one in listen for word in ("--listen", one))])
        assert code == 0
        return capsys.readouterr().err.splitlines()

    return run


@pytest.mark.parametrize(
    ("listen", "note"),
    [
        (
            "tcp://:25=upper",
            "tcp://:25: /etc/services registers port 25 for smtp; if you mean that service, write tcp://:smtp",
        ),
        (
            "udp://[::1]:53=echo",
            "udp://[::1]:53: /etc/services registers port 53 for domain; if you mean that service, write udp://[::1]:domain",
        ),
    ],
)
def test_a_port_of_another_service_is_pointed_out_and_no_error(check, listen, note):
    assert check(listen) == [
        f"sockd: the command line: note: {note}",
        "sockd: the command line: configuration OK: 1 listener",
    ]


@pytest.mark.parametrize(
    "listen",
    ["tcp://:smtp=upper", "udp://127.0.0.1:7=echo", "tcp://:0=upper", "tcp://:48999=upper", "unix:/tmp/x=upper"],
)
def test_every_other_port_is_passed_in_silence(check, listen):
    assert check(listen) == ["sockd: the command line: configuration OK: 1 listener"]
