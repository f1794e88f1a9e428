# SPDX-License-Identifier: MIT
# Seen failing against a daemon that keeps one answer of the resolver for all: every client gets the name of the last.
"""FAQ III.4: a resolver's answer is a value, never shared: two names at once."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

HOSTS = "127.0.0.1 localhost\n" + "".join(f"127.0.2.{number} host{number}.test\n" for number in range(1, 21))


def test_two_names_in_one_configuration_are_two_addresses(daemon, etc):
    toml = '[[listen]]\naddresses = ["tcp://host1.test:0", "tcp://host2.test:0"]\nservice = "upper"\n'
    one = daemon(toml=toml, prefix=etc(hosts=HOSTS))
    assert [address.rpartition(":")[0] for address in one.addresses] == ["tcp://127.0.2.1", "tcp://127.0.2.2"]


def test_names_of_clients_that_come_at_once_are_not_mixed_up(daemon, etc, name_of, until):
    toml = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\nnames = true\n'
    one = daemon(toml=toml, prefix=etc(hosts=HOSTS))
    clients = {}
    for number in range(1, 21):
        source = (f"127.0.2.{number}", 0)
        clients[number] = one.connect(before=lambda sock, source=source: sock.bind(source))

    def named():
        """A name is known a moment later: another connection of each host is named when all of them are."""
        found = {}
        for number in clients:
            source = (f"127.0.2.{number}", 0)
            with one.connect(before=lambda sock, source=source: sock.bind(source)) as sock:
                peer = name_of(sock)
            found[number] = one.closed(peer=peer).get("name")
        return found if all(found.values()) else None

    assert until(named) == {number: f"host{number}.test" for number in clients}


def test_clients_of_two_names_at_once(daemon, etc, sockctl_script):
    toml = '[[listen]]\naddresses = ["tcp://host1.test:0", "tcp://host2.test:0"]\nservice = "app:where"\n'
    app = "def where(line, connection):\n    return connection.get_extra_info('sockname')[0].encode()\n"
    prefix = etc(hosts=HOSTS)
    one = daemon(toml=toml, app=app, prefix=prefix)

    def ask(number):
        words = [*prefix, sockctl_script, "connect", f"tcp://host{number}.test:{one.port(number - 1)}"]
        return subprocess.run(words, input=b"\n", capture_output=True, timeout=20).stdout

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, [1, 2, 2, 1])) == [b"127.0.2.1\n", b"127.0.2.2\n", b"127.0.2.2\n", b"127.0.2.1\n"]
