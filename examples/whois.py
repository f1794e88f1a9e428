# SPDX-License-Identifier: MIT
"""A whois server (RFC 3912): names as they are written, addresses by the smallest network that holds them.

In this directory, then in another terminal:

    sockd --foreground --listen tcp://127.0.0.1:4343=whois:service
    whois -h 127.0.0.1 -p 4343 example.com
    whois -h 127.0.0.1 -p 4343 192.0.2.7

The records are in whois.records, or in the file that $WHOIS_RECORDS names, with an empty line between two of them.  The
value of a record's first line is what it is found by.
"""

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import sockd

RECORDS = Path(os.environ.get("WHOIS_RECORDS", Path(__file__).with_suffix(".records")))

Network = IPv4Network | IPv6Network

service = sockd.Service(framing=sockd.Line(512, b"\r\n"), frame_timeout=10, max_connections=200)


def as_network(text: str) -> Network | None:
    """Read an address or a network; None if it is neither."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def load(path: Path) -> dict[Network | str, bytes]:
    """Read the records, each as it is sent, by its network or its name in small letters."""
    records: dict[Network | str, bytes] = {}
    for record in path.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = record.strip().splitlines()
        key = lines[0].partition(":")[2].strip().lower()
        records[as_network(key) or key] = "\r\n".join(lines).encode()
    return records


records = load(RECORDS)


def find(query: str) -> bytes | None:
    """Return the record of a name, or of the smallest network that an address or a network lies in."""
    network = as_network(query)
    if network is None:
        return records.get(query.lower())
    for length in range(network.prefixlen, -1, -1):
        found = records.get(network.supernet(new_prefix=length))
        if found is not None:
            return found
    return None


@service.frame
def answer(line: bytes) -> None:
    """Answer the one query of a connection, and end it (RFC 3912, 2)."""
    raise sockd.Close(find(line.decode(errors="replace").strip()) or b"% No match")
