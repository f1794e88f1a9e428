# SPDX-License-Identifier: MIT
"""`sockctl import --check-against`: what it says of each combination of what is wanted and what is there."""

from __future__ import annotations

import pytest

from sockd.cli.verbs.import_check import HostSocket, compare
from sockd.config.load import loads


def there(text, program="xinetd"):
    protocol, _, rest = text.partition("://")
    if not rest:
        return HostSocket("unix", 0, text.removeprefix("unix:"), 0, 7, program)
    host, _, port = rest.rpartition(":")
    return HostSocket(protocol, 6 if "[" in host else 4, host.strip("[]"), int(port), 7, program)


def words(addresses, *found, keys=""):
    tables = "".join(f'[[listen]]\naddress = "{one}"\nservice = "echo"\n{keys}\n' for one in addresses)
    settings = loads(tables, name="t")
    return [(row.address, row.word) for row in compare(settings, found)]


@pytest.mark.parametrize(
    ("wanted", "found", "word"),
    [
        ("tcp://127.0.0.1:7001", ["tcp://127.0.0.1:7001"], "same"),
        ("tcp://127.0.0.1:7001", [], "new"),
        ("tcp://127.0.0.1:7001", ["tcp://127.0.0.1:7002", "udp://127.0.0.1:7001"], "new"),
        ("tcp://127.0.0.1:7001", ["tcp://0.0.0.0:7001"], "narrower"),
        ("tcp://0.0.0.0:7001", ["tcp://0.0.0.0:7001"], "same"),
        ("tcp://0.0.0.0:7001", ["tcp://127.0.0.1:7001"], "wider"),
        ("tcp://:7001", ["tcp://[::]:7001"], "same"),
        ("tcp://:7001", ["tcp://0.0.0.0:7001"], "wider"),
        ("tcp://:7001", ["tcp://0.0.0.0:7001", "tcp://[::]:7001"], "same"),
        ("tcp://0.0.0.0:7001", ["tcp://[::]:7001"], "narrower"),
        ("udp://0.0.0.0:7001", ["udp://0.0.0.0:7001"], "same"),
        ("tcp://[::1]:7001", ["tcp://[::1]:7001"], "same"),
        ("unix:/run/x", ["unix:/run/x"], "same"),
        ("unix:/run/x", ["unix:/run/y"], "new"),
    ],
)
def test_one_address(wanted, found, word):
    assert words([wanted], *map(there, found))[0] == (wanted.replace("tcp://:", "tcp://*:"), word) or words(
        [wanted], *map(there, found)
    )[0] == (wanted, word)


def test_ipv6_only_is_no_socket_for_both():
    assert words(["tcp://[::]:7001"], there("tcp://0.0.0.0:7001"), keys="ipv6_only = true")[0][1] == "wider"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("tcp://127.0.0.1:7001", "tcp://127.0.0.1:7001"),
        ("tcp://127.0.0.1:7001", "tcp://0.0.0.0:7001"),
        ("tcp://0.0.0.0:7001", "tcp://127.0.0.1:7001"),
        ("tcp://0.0.0.0:7001", "tcp://[::]:7001"),
    ],
)
def test_a_port_of_another_program_is_taken(wanted, found):
    assert words([wanted], there(found, "nginx")) == [(wanted, "occupied")]


def test_another_address_of_the_port_is_not_in_the_way():
    assert words(["tcp://127.0.0.1:7001"], there("tcp://127.0.0.2:7001", "nginx"))[0][1] == "new"


def test_what_is_not_served_any_more_is_lost():
    found = [there("tcp://0.0.0.0:7001"), there("tcp://0.0.0.0:7002"), there("tcp://0.0.0.0:7003", "nginx")]
    assert words(["tcp://0.0.0.0:7001"], *found) == [("tcp://0.0.0.0:7001", "same"), ("tcp://0.0.0.0:7002", "lost")]


def test_what_a_local_user_has_named_does_not_command_the_terminal():
    settings = loads('[[listen]]\naddress = "tcp://127.0.0.1:7001"\nservice = "echo"\n', name="t")
    found = [there("unix:/tmp/\x1b[2J\udcff"), there("tcp://127.0.0.1:7001", program="a\x1b]0;b\x07")]
    occupied, lost = compare(settings, found)
    assert occupied.text.startswith(r"a\x1b]0;b\x07 (pid 7) has tcp://127.0.0.1:7001")
    assert lost.address == r"unix:/tmp/\x1b[2J\udcff"
