# SPDX-License-Identifier: MIT
"""examples/graphite_sink.py told by a real collectd, and by lines that it never sends."""

from __future__ import annotations

import time

import pytest
from programs import needs, port_of

COLLECTD = """
Hostname "tests"
FQDNLookup false
BaseDir "{directory}"
PIDFile "{directory}/pid"
Interval 0.01
ReadThreads 1
WriteThreads 1
LoadPlugin load
LoadPlugin uptime
LoadPlugin write_graphite
<Plugin write_graphite>
  <Node "sockd">
    Host "127.0.0.1"
    Port "{port}"
    Protocol "tcp"
    Prefix "machines."
  </Node>
</Plugin>
"""


@pytest.fixture
def daemon(serve_example):
    return serve_example("graphite_sink:sink", "graphite_sink:latest")


@needs("collectd", "collectd-core")
def test_collectd(daemon, talk, until, tmp_path):
    sink, latest = daemon.addresses
    (tmp_path / "collectd.conf").write_text(COLLECTD.format(directory=tmp_path, port=port_of(sink)))
    talk("collectd", "-f", "-C", tmp_path / "collectd.conf")
    asking = daemon.connect(latest)
    uptime, at = until(lambda: asking.ask(b"machines.tests.uptime.uptime").split())  # sent once a segment is full
    assert float(uptime) > 0
    assert abs(float(at) - time.time()) < 60
    for term in (b"shortterm", b"midterm", b"longterm"):
        load, _ = asking.ask(b"machines.tests.load.load." + term).split()
        assert float(load) >= 0
    assert [event for event in daemon.events if event["level"] == "warning" and "kept" in event["message"]] == []


def test_wrong_lines_are_told_and_the_others_kept(daemon):
    wrong = [b"", b"a 1", b"a 1 2 3", b"a one 2", b"a 1 two"]
    for count, line in enumerate(wrong, 1):
        sink, latest = map(daemon.connect, daemon.addresses)
        sink.finish_with(b"before 1 %d\n" % count + line + b"\nafter -1.5e3 %d\r\n" % count)
        assert latest.ask(b"before") == b"1 %d" % count
        assert latest.ask(b"after") == b"-1.5e3 %d" % count
        assert latest.ask(b"a") == b""
        assert daemon.wait_for("not kept: 1 of 3 lines", count)["level"] == "warning"
