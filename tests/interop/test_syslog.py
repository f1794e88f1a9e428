# SPDX-License-Identifier: MIT
"""examples/syslog_sink.py told by logger(1), over every kind of socket that it knows."""

from __future__ import annotations

import socket

import pytest
from programs import needs, port_of

logger = needs("logger", "bsdutils")

SERVICE = "syslog_sink:service"
WAYS = {
    "tcp": "--tcp -n 127.0.0.1 -P {tcp}",
    "tcp, octet count": "--tcp --octet-count -n 127.0.0.1 -P {tcp}",
    "tcp, octet count, BSD": "--tcp --octet-count --rfc3164 -n 127.0.0.1 -P {tcp}",
    "udp": "--udp -n 127.0.0.1 -P {udp}",
    "unix stream": "-u {directory}/stream",
    "unix stream, octet count": "--octet-count -u {directory}/stream",
    "unix datagram": "-u {directory}/datagram",
}


@pytest.fixture
def sink(serve_example, tmp_path):
    """Serve it everywhere; `sink.kept()` is the file, and `sink.words(way)` what logger(1) is told."""
    addresses = ("tcp://127.0.0.1:0", "udp://127.0.0.1:0", f"unix:{tmp_path}/stream", f"unixgram:{tmp_path}/datagram")
    server = serve_example(*[f"{address}={SERVICE}" for address in addresses])
    ports = {address[:3]: port_of(address) for address in server.addresses}
    server.words = lambda way: ["logger", *WAYS[way].format(directory=tmp_path, **ports).split()]
    server.kept = (tmp_path / "messages").read_text
    return server


@logger
@pytest.mark.parametrize("way", WAYS)
def test_logger(sink, run, until, way):
    assert run(*sink.words(way), "-t", "tests", "-p", "mail.warning", "Grüße").stderr == b""
    assert run(*sink.words(way), "-t", "tests", "9 bottles").stderr == b""
    first, second = until(lambda: len(lines := sink.kept().splitlines()) == 2 and lines)
    host = "local" if "directory" in WAYS[way] else "127.0.0.1"
    assert first.startswith(f"mail.warning {host} ")
    assert first.endswith("Grüße")
    assert second.startswith(f"user.notice {host} ")
    assert second.endswith("9 bottles")
    assert "<" not in first + second


@logger
@pytest.mark.parametrize("way", ["tcp", "tcp, octet count"])
def test_many_in_one_connection(sink, run, way):
    lines = [f"line {number}" for number in range(5000)]
    assert run(*sink.words(way), input="\n".join(lines).encode()).stderr == b""
    sink.wait_for("closed")
    assert [line[line.index("line ") :] for line in sink.kept().splitlines()] == lines


BECOMES = [
    (b"no priority", "user.notice 127.0.0.1 no priority"),
    (b"<0>a", "kern.emerg 127.0.0.1 a"),
    (b"<191>a", "local7.debug 127.0.0.1 a"),
    (b"<192>a", "user.notice 127.0.0.1 <192>a"),
    (b"<13>two\nlines \x1b[2J\n", "user.notice 127.0.0.1 two#012lines #033[2J"),
    (b"<13>\xff", "user.notice 127.0.0.1 \\xff"),
]


def test_what_a_message_becomes(sink, until):
    lines = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for message, line in BECOMES:
            sock.sendto(message, ("127.0.0.1", int(port_of(sink.addresses[1]))))
            lines.append(line)
            assert until(lambda: len(kept := sink.kept().splitlines()) == len(lines) and kept) == lines


def test_a_file_that_was_moved_away_begins_anew(sink, tmp_path):
    for number in (1, 2):
        client = sink.connect()
        client.finish_with(b"<13>%d\n" % number)
        sink.end_of(client)
        (tmp_path / "messages").rename(tmp_path / f"messages.{number}")
    assert [(tmp_path / f"messages.{number}").read_text() for number in (1, 2)] == [
        "user.notice 127.0.0.1 1\n",
        "user.notice 127.0.0.1 2\n",
    ]
