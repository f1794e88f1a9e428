# SPDX-License-Identifier: MIT
"""Look-up tables for Postfix, by its protocol socketmap_table(5): several named maps, in netstrings.

In this directory, then in another terminal:

    sockd --foreground --listen tcp://127.0.0.1:2528=postfix_socketmap:service
    postmap -q postmaster@example.com socketmap:inet:127.0.0.1:2528:virtual
    postmap -q - socketmap:inet:127.0.0.1:2528:virtual < keys

and in main.cf `virtual_alias_maps = socketmap:inet:127.0.0.1:2528:virtual`.  The maps are in postfix_socketmap.maps,
or in the file that $POSTFIX_SOCKETMAP_MAPS names, which is read when the daemon starts.
"""

import os
from pathlib import Path

import sockd

MAPS = Path(os.environ.get("POSTFIX_SOCKETMAP_MAPS", Path(__file__).with_suffix(".maps")))
MAX_BYTES = 100_000  # of a request or an answer, socketmap_table(5)

service = sockd.Service(framing=sockd.Netstring(MAX_BYTES))
answers: dict[bytes, bytes] = {}


@service.startup
def load() -> None:
    """Read `MAP KEY VALUE` lines into the answers; # begins a comment line, and a tab may stand for a blank."""
    for number, line in enumerate(MAPS.read_bytes().splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            name, key, value = line.split(maxsplit=2)
        except ValueError:
            raise ValueError(f"{MAPS}:{number}: want MAP KEY VALUE") from None
        answers[name + b" " + key] = b"OK " + value


@service.frame
def lookup(request: bytes) -> bytes:
    """Answer `MAP KEY`: neither has to be taken apart, for what is asked for is just what `answers` has."""
    return answers.get(request, b"NOTFOUND ")  # the blank behind it belongs to it
