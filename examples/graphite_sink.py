# SPDX-License-Identifier: MIT
"""A sink for Graphite's plaintext protocol, `PATH VALUE TIMESTAMP` a line, and a service that tells what came last.

In this directory, with collectd's write_graphite (or anything else that speaks to a carbon-cache) pointed to port 2003:

    sockd --foreground --listen tcp://:2003=graphite_sink:sink --listen tcp://127.0.0.1:2004=graphite_sink:latest
    echo "servers.www.load $(cut -d' ' -f1 /proc/loadavg) $(date +%s)" | sockctl connect tcp://127.0.0.1:2003
    echo servers.www.load | sockctl connect tcp://127.0.0.1:2004

Both services are in one process and one thread, so that they may share what they know.
"""

import logging

import sockd

MOST_PATHS = 100_000
"""Whoever sends may make up names without end; past these, new ones are not kept."""

logger = logging.getLogger("graphite_sink")
last: dict[bytes, bytes] = {}
sink = sockd.Service(framing=sockd.Line(4096), idle_timeout=3600)


@sink.frames
def store(lines: list[bytes]) -> None:
    """Keep all that came at once from one sender; collectd sends many lines in each segment."""
    refused = sum(not keep(line) for line in lines)
    if refused:
        logger.warning("not kept: %d of %d lines", refused, len(lines))


def keep(line: bytes) -> bool:
    """Keep one line; tell whether it was one, and there was room."""
    try:
        path, value, timestamp = line.split()
        for number in (value, timestamp):
            float(number)
    except ValueError:
        return False
    if path not in last and len(last) >= MOST_PATHS:
        return False
    last[path] = value + b" " + timestamp
    return True


def latest(path: bytes) -> bytes:
    """Answer a path with its last value and time, or with an empty line."""
    return last.get(path, b"")
