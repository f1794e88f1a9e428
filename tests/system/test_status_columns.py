# SPDX-License-Identifier: MIT
"""The tables of `sockctl status`: limits are those that were set, and unsent bytes are those of the clients.

Seen failing with the backlog in the column of the limit.
"""

from __future__ import annotations

import socket

import pytest
from controlling import Sockctl

APP = "def much(line):\n    return b'x' * 16_000_000  # more than any kernel takes\n"
CONFIG = """
[daemon]
control = "{path}"
workers = {workers}
[[listen]]
address = "tcp://127.0.0.1:0"
service = "app:much"
max_connections = 7
backlog = 33
[[listen]]
address = "tcp://127.0.0.1:0"
service = "app:much"
backlog = 34
[service.other]
handler = "app:much"
max_connections = 8
[[listen]]
address = "tcp://127.0.0.1:0"
service = "other"
"""


def table(text, head):
    """Rows of a table as dicts, by the names of its columns."""
    lines = text[text.index(head) :].lstrip().partition("\n\n")[0].splitlines()
    names = lines[0].split()
    return [dict(zip(names, line.split(), strict=False)) for line in lines[1:] if "refused:" not in line]


@pytest.fixture
def full(serve, tmp_path, request):
    """sockctl of a daemon with three clients that read nothing."""
    (tmp_path / "app.py").write_text(APP)
    one = Sockctl(tmp_path)
    server = serve(config=CONFIG.format(path=one.path, workers=request.param))
    clients = []
    for address in server.addresses:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        clients.append(socket.socket())
        clients[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        clients[-1].connect((host, int(port)))
        clients[-1].sendall(b"x\n")

    def unsent():
        return [row["output_pending_bytes"] for row in one.ask("connections")]

    server.wait_until(lambda: len(unsent()) == 3 and all(unsent()), "three clients with unsent output")
    yield one, unsent
    for client in clients:
        client.close()


@pytest.mark.parametrize("full", [1, 2], indirect=True)
def test_limits_queues_and_unsent_bytes(full):
    one, unsent = full
    text = one.say("status")
    assert [row["MAX"] for row in table(text, "LISTENER")] == ["7", "-", "-"]
    assert [row["QUEUE"].partition("/")[2] for row in table(text, "LISTENER")][:2] == ["33", "34"]
    assert {row["SERVICE"]: row["MAX"] for row in table(text, "\nSERVICE")} == {"app:much": "-", "other": "8"}
    status = one.ask("status")
    services = status["services"].values()
    assert sum(service["output_pending_bytes"] for service in services) == sum(unsent())
    assert status["memory"] >= sum(unsent())
    assert all(service["output_pending_bytes"] for service in services)
