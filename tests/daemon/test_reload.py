# SPDX-License-Identifier: MIT
"""A reload in which each step fails in turn: what is served, by what, and all that is open is as before."""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import os
import pwd
import socket
import sys
import textwrap

import pytest
from in_process import descriptors

from sockd.daemon import reload as reloading
from sockd.daemon.listeners import ListenerRegistry
from sockd.daemon.programs import ProgramFiles
from sockd.daemon.proxies import ProxyFiles, ProxyServers
from sockd.errors import SystemFault, TemporaryFault
from sockd.process.inherited_sockets import InheritedSockets
from sockd.services import hooks, module_state, reimport

APP = """
import sockd

def answer(line):
    return b"VERSION " + line

service = sockd.Service()
service.frame(answer)
"""
BEFORE = """
[daemon]
max_memory = "8 MiB"
[daemon.log]
level = "warning"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "reload_app:service"
[[listen]]
address = "unix:DIRECTORY/kept"
service = "echo"
[[listen]]
address = "unix:DIRECTORY/gone"
service = "upper"
"""
AFTER = """
[daemon]
max_memory = "16 MiB"
[daemon.log]
level = "error"
[service.lister]
exec = ["/bin/cat"]
stderr = "DIRECTORY/stderr"
user = "USER"
[service.forward]
relay = { to = ["tcp://127.0.0.1:9"] }
[[listen]]
address = "tcp://127.0.0.1:0"
service = "reload_app:service"
[[listen]]
address = "unix:DIRECTORY/kept"
service = "upper"
[[listen]]
address = "unix:DIRECTORY/new"
service = "lister"
[[listen]]
address = "unix:DIRECTORY/relay"
service = "forward"
[[listen]]
address = "unix:DIRECTORY/pages"
service = "metrics"
"""
STEPS = [
    (importlib, "invalidate_caches"),
    (reimport.ImportedAnew, "__enter__"),
    (reloading, "plan"),
    (reloading.Reload, "_match"),
    (reloading, "why_not_switched"),
    (reloading.Reload, "_make_room"),
    (reloading.Reload, "_renew"),
    (reloading.Reload, "problem"),
    (reloading.Reload, "_bind"),
    (InheritedSockets, "open"),
    (reloading, "check_opened"),
    (ProxyFiles, "prepare"),
    (ProgramFiles, "prepare"),
    (ProgramFiles, "adopt"),
    (ProxyServers, "server"),
    (reloading, "continued"),
    (ListenerRegistry, "prepare"),
    (ListenerRegistry, "measure"),
    (ListenerRegistry, "_run"),
    (ListenerRegistry, "_make"),
    (hooks, "start"),
    (module_state, "snapshots"),
    (module_state, "restore"),
]
OWN_TESTS = {"_read", "ImportedAnew"}
"""Steps whose failure is that of the configuration, or of a row's own part."""
PARTS = {"_open", "_prepare_settings", "module_states", "prepare"}
"""What consists of rows."""
HARMLESS = {
    "ConfigurationError", "PreparedReload", "SystemFault", "ServerSocket", "any", "append", "callback", "enter_context",
    "error", "id", "isinstance", "items", "list", "nullcontext", "str", "values", "warning", "zip", "_guarded",
    "close_draining", "_why_not", "_forget", "_release_unused", "_can_open", "LeftOut", "clear", "tuple", "replace",
    "find_key", "find_number", "located", "under_key",
}  # fmt: skip
"""Values and containers, the undo itself, log lines, and what happens on the way out."""
PLANTED = {"a fault": SystemFault("planted"), "a defect": RuntimeError("planted"), "an exit": SystemExit("planted")}


class Waits(ListenerRegistry):
    """Listeners that are there later, as those of a supervisor are."""

    def __init__(self, tools) -> None:
        super().__init__(tools)
        self.waiting = []

    def when_ready(self, made, then) -> None:
        self.waiting.append(then)


@pytest.fixture
def before(in_process, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    monkeypatch.setattr(reimport, "_is_authors", lambda name, _module, _packages: name == "reload_app")  # not the tests
    (tmp_path / "reload_app.py").write_text(APP.replace("VERSION", "1"))
    in_process.next = AFTER.replace("DIRECTORY", str(tmp_path)).replace("USER", pwd.getpwuid(os.geteuid()).pw_name)
    yield BEFORE.replace("DIRECTORY", str(tmp_path))
    sys.modules.pop("reload_app", None)


def calls(function) -> set[str]:
    """Return the names of what a function calls."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {one.attr if isinstance(one, ast.Attribute) else ast.unparse(one) for one in called}


def test_each_step_of_the_source_is_a_row():
    """fails where a step is added to a reload, and no row here has it fail"""
    names = ("_prepare", "_prepare_settings", "_renew", "_make_room", "_open")
    parts = (getattr(reloading.Reload, name) for name in names)
    called = set().union(*map(calls, (*parts, ListenerRegistry.prepare, ListenerRegistry.module_states)))
    assert called - {step for _, step in STEPS} - OWN_TESTS - PARTS - HARMLESS == set()


def state(daemon, directory) -> dict[str, object]:
    """Return all that a reload may change.

    Not here: the file of standard error, which stays, empty, and the epoll of relayed pairs, which the loop has one of
    as soon as somebody needs it.
    """
    serving = daemon.serving
    return {
        "listeners": [id(one) for one in serving.listeners],
        "draining": list(serving.draining),
        "settings": daemon.settings.current,
        "descriptors": {fd: what for fd, what in descriptors().items() if what != "anon_inode:[eventpoll]"},
        "paths": sorted(name for name in os.listdir(directory) if name not in ("__pycache__", "stderr")),
        "module": sys.modules["reload_app"].answer,
        "level": logging.getLogger().level,
        "stderr": daemon._resources.programs.find("lister"),
        "relays": len(serving.tools.forwarding._known),
        "under way": daemon.reloading.is_under_way,
    }


def ask(daemon, in_process, line: bytes) -> bytes:
    """Return what the first listener answers."""
    where = daemon.serving.listeners[0].listening.socket.getsockname()
    with socket.create_connection(where, timeout=5) as client:
        client.sendall(line)
        served = daemon.serving.listeners[0]
        was = daemon.serving.totals()[served.plan.service.name].frames
        in_process.turn(daemon, lambda: daemon.serving.totals()[served.plan.service.name].frames > was)
        return client.recv(99)


def test_a_reload_changes_all_of_that(in_process, tmp_path, before):
    """Else the tables below would show nothing."""
    daemon = in_process.daemon(before)
    assert ask(daemon, in_process, b"a\n") == b"1 a\n"
    was = state(daemon, tmp_path)
    (tmp_path / "reload_app.py").write_text(APP.replace("VERSION", "222"))
    results = []
    daemon.reload(results.append)
    assert [one.error for one in results] == [""]
    now = state(daemon, tmp_path)
    assert {name for name in was if was[name] == now[name]} == {"under way"}
    assert ask(daemon, in_process, b"a\n") == b"222 a\n"
    assert in_process.log.reopened == 1
    assert daemon.reloading.count == {True: 1, False: 0}
    in_process.pass_time(daemon, 60)
    assert not daemon.serving.draining
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize(("where", "step"), [pytest.param(*one, id=one[1]) for one in STEPS])
def test_all_is_as_before_when_a_step_fails(in_process, tmp_path, before, monkeypatch, where, step, kind):
    """fails with an undo that is left out, such as give_back(): then the file of standard error is the new one's"""
    daemon = in_process.daemon(before)
    was = state(daemon, tmp_path)
    (tmp_path / "reload_app.py").write_text(APP.replace("VERSION", "222"))

    def fails(*_: object, **__: object) -> None:
        raise PLANTED[kind]

    results = []
    with monkeypatch.context() as patch:
        patch.setattr(where, step, fails)
        daemon.reload(results.append)
    assert [one.error.rpartition(": ")[2] for one in results] == ["planted"]  # with the place before it
    assert state(daemon, tmp_path) == was
    assert daemon.reloading.count == {True: 0, False: 1}
    assert ask(daemon, in_process, b"a\n") == b"1 a\n"
    daemon.reload(results.append)  # and the next one is as if there had been none
    assert results[1].error == ""
    assert ask(daemon, in_process, b"a\n") == b"222 a\n"


@pytest.mark.parametrize("kind", PLANTED)
def test_all_is_as_before_when_the_configuration_cannot_be_read(in_process, tmp_path, before, kind):
    daemon = in_process.daemon(before)
    was, in_process.next = state(daemon, tmp_path), PLANTED[kind]
    results = []
    daemon.reload(results.append)
    assert "planted" in results[0].error
    assert state(daemon, tmp_path) == was


def test_all_is_as_before_when_others_cannot_serve(in_process, tmp_path, before):
    """Those that are waited for: nothing is changed while they are, and nothing stays when they fail."""
    daemon = in_process.daemon(before, make=Waits)
    was = state(daemon, tmp_path)
    results = []
    daemon.reload(results.append)
    assert results == []
    assert daemon.reloading.is_under_way
    with pytest.raises(TemporaryFault, match="in progress"):
        daemon.reload(results.append)
    assert state(daemon, tmp_path)["listeners"] == was["listeners"]
    assert state(daemon, tmp_path)["settings"] == was["settings"]
    daemon.serving.waiting[0](SystemFault("planted"))
    assert results[0].error == "planted"
    assert state(daemon, tmp_path) == was
    daemon.reload(results.append)
    daemon.serving.waiting[1](None)
    assert results[1].error == ""


def test_a_hang_up_meanwhile_reloads_once_more(in_process, tmp_path, before):
    daemon = in_process.daemon(before, make=Waits)
    daemon._hang_up()
    daemon._hang_up()
    daemon._hang_up()
    assert len(daemon.serving.waiting) == 1
    daemon.serving.waiting[0](None)
    assert len(daemon.serving.waiting) == 2
    daemon.serving.waiting[1](None)
    assert len(daemon.serving.waiting) == 2


def test_a_daemon_that_stops_reloads_no_more(in_process, tmp_path, before):
    daemon = in_process.daemon(before)
    daemon.shutdown.stop()
    with pytest.raises(TemporaryFault, match="stopping"):
        daemon.reload(lambda result: None)
