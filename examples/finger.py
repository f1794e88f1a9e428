# SPDX-License-Identifier: MIT
"""The Finger service (RFC 1288), without a program behind it: it tells what stands in a file, and nothing of this host.

In this directory, as root for the port below 1024, which is the only one that finger(1) knows:

    sockd --foreground --user nobody --listen tcp://127.0.0.1:finger=finger:service
    finger ann@127.0.0.1
    finger @127.0.0.1

The people are in finger.people, or in the file that $FINGER_PEOPLE names: `LOGIN NAME`, then what is told, indented.
"""

import os
from pathlib import Path

import sockd

PEOPLE = Path(os.environ.get("FINGER_PEOPLE", Path(__file__).with_suffix(".people")))

# Text of the network ends in CR LF (RFC 1288, 2.2); a query is short, and comes at once.
service = sockd.Service(framing=sockd.Line(512, b"\r\n"), frame_timeout=10, max_connections=50)


def load(path: Path) -> dict[bytes, list[bytes]]:
    """Read what is told of each login, as lines."""
    people: dict[bytes, list[bytes]] = {}
    told: list[bytes] = []
    for line in path.read_bytes().splitlines():
        if line[:1].isspace():
            told.append(line)
        elif line:
            login, _, name = line.partition(b" ")
            told = people[login] = [b"Login: %-16b Name: %b" % (login, name.strip())]
    return people


people = load(PEOPLE)


@service.frame
def answer(query: bytes) -> None:
    """Answer the one query of a connection, and end it (RFC 1288, 2.3)."""
    who = query.removeprefix(b"/W").strip()  # long or short makes no difference here
    if b"@" in who:
        told = [b"Finger forwarding service denied"]  # RFC 1288, 3.2.1
    elif not who:
        told = [lines[0] for lines in people.values()]
    else:
        told = people.get(who, [b"No such user"])
    raise sockd.Close(b"\r\n".join(told))
