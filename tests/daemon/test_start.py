# SPDX-License-Identifier: MIT
"""A start in which each step fails in turn: nothing that it opened stays, and what was wrong is what is raised."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack

import pytest
from in_process import InProcess, descriptors

from sockd.daemon import runtime, startup
from sockd.daemon.daemon import Daemon
from sockd.daemon.lineage import Lineage
from sockd.daemon.listeners import ListenerRegistry
from sockd.daemon.shutdown import ServingState
from sockd.daemon.startup import Start
from sockd.daemon.worker_processes import NoWorkers
from sockd.errors import HandlerError, SystemFault

FIRST = [
    (startup.privileges, "wanted"),
    (startup.sd_notify, "connect"),
    (startup.privileges, "prepare"),
    (startup, "plan"),
    (Lineage, "lock"),
    (startup, "ProgramFiles"),
    (startup, "ProxyFiles"),
    (startup, "InheritedSockets"),
    (Lineage, "listen"),
    (startup, "_hides_library"),
    (startup, "loop_class"),
]
"""Of the first phase."""
SECOND = [(startup.privileges, "drop")]
THIRD = [
    (runtime, "room"),
    (runtime, "ConnectionTable"),
    (runtime.selector, "choose"),
    (runtime, "ThreadPool"),
    (runtime, "ProxyServers"),
    (runtime, "ReverseDns"),
    (runtime, "SpareDescriptor"),
    (runtime, "ProgramRunner"),
    (runtime, "RejectedConnections"),
    (ListenerRegistry, "prepare"),
    (ListenerRegistry, "start"),
]
STEPS = [pytest.param(*step, id=step[1]) for step in (*FIRST, *SECOND, *THIRD)]


def configuration(directory) -> str:
    return f"""
[daemon]
pidfile = "{directory}/pid"
control = "{directory}/control"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "upper"
[[listen]]
address = "unix:{directory}/unix"
service = "echo"
[[listen]]
address = "udp://127.0.0.1:0"
service = "echo"
"""


def compose(one: InProcess, stack: ExitStack, directory) -> Daemon:
    """Do what sockd.daemon.daemon.run() does, as far as the loop."""
    process = one.process(configuration(directory))
    start = Start(process, stack, lambda _daemon, _wanted: one.log).run()
    tools = runtime.make(process, start, stack, one.clock)
    daemon = Daemon(process, start, ListenerRegistry(tools), NoWorkers(), stack)
    daemon.begin()
    return daemon


def test_a_start_opens_what_its_configuration_says(in_process, tmp_path):
    before = descriptors()
    with ExitStack() as stack:
        daemon = compose(in_process, stack, tmp_path)
        assert daemon.shutdown.state is ServingState.SERVING
        assert [str(one).partition(":")[0] for one in daemon.serving.listeners] == ["tcp", "unix", "udp"]
        assert sorted(os.listdir(tmp_path)) == ["control", "pid", "unix"]
        assert len(descriptors()) > len(before)
    assert descriptors() == before
    assert sorted(os.listdir(tmp_path)) in (["pid"], [])  # where it may not be removed it is emptied


@pytest.mark.parametrize(("where", "step"), STEPS)
def test_nothing_stays_of_a_start_that_fails(in_process, tmp_path, monkeypatch, where, step):
    """fails with one that is not closed by the stack: its descriptor, or its path, stays"""
    if where is startup.privileges or getattr(where, "__name__", "").endswith("privileges"):
        where = startup.privileges  # the fake one, by now

    def fails(*_: object, **__: object) -> None:
        raise SystemFault("planted")

    before = descriptors()
    monkeypatch.setattr(where, step, fails)
    with pytest.raises(SystemFault, match="planted"), ExitStack() as stack:
        compose(in_process, stack, tmp_path)
    assert descriptors() == before
    assert sorted(os.listdir(tmp_path)) in (["pid"], [])
    if os.path.exists(tmp_path / "pid"):
        assert (tmp_path / "pid").read_bytes() == b""


def test_what_fails_in_a_hook_ends_the_start(in_process, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hooked_app.py").write_text(
        "import sockd\n\nservice = sockd.Service()\nservice.frame(lambda line: line)\n\n"
        "@service.startup\ndef start():\n    raise RuntimeError('planted')\n"
    )
    text = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "hooked_app:service"\n'
    before = descriptors()
    with ExitStack() as stack:
        in_process.stack = stack
        with pytest.raises(HandlerError, match="planted"):
            in_process.daemon(text)
    assert descriptors() == before


def test_it_serves_and_stops_in_order(in_process, tmp_path):
    """The whole of it: a client is answered, TERM, goodbye, and nothing stays."""
    before = descriptors()
    in_process.clock = time.monotonic
    with socket.socket() as client:
        client.settimeout(5)
        with ExitStack() as stack:
            daemon = compose(in_process, stack, tmp_path)
            client.connect(daemon.serving.listeners[0].listening.socket.getsockname())
            client.sendall(b"hello\n")
            in_process.turn(daemon, lambda: daemon.serving.totals()["upper"].frames == 1)
            assert client.recv(99) == b"HELLO\n"
            client.shutdown(socket.SHUT_WR)
            daemon.shutdown.stop()
            assert daemon.shutdown.state is ServingState.NOT_READY
            daemon.drain()
            assert daemon.shutdown.state is ServingState.STOPPING
            assert daemon.serving.totals()["upper"].open == 0
        assert client.recv(99) == b""
    assert descriptors() == before
