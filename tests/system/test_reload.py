# SPDX-License-Identifier: MIT
"""A new configuration while connections are served: SIGHUP, `sockctl reload`, `sockctl plan`.

Seen to fail: with listeners that stay bound anew, a connection between is refused; with handlers not forgotten, the
old one answers; with Run.quota made anew, a limit lets one more in; with modules not put back, the old handler
is gone after a failed import; with groups never given up, the shutdown hook does not come.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from controlling import SOCKCTL, Sockctl
from watching import _until

from sockd.services.socks.users import Scrypt

HANDLER = """
import sockd

service = sockd.Service()

@service.startup
def up():
    note("up WORD")

@service.shutdown
def down():
    note("down WORD")

@service.frame
def answer(line, connection):
    return b"WORD " + line

def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")
"""
LIES = """
class Lies(BaseException):
    __class__ = __str__ = property(lambda self: 1 / 0)

raise Lies
"""
LISTEN = '[[listen]]\naddress = "{}"\nservice = "{}"\n'


@pytest.fixture
def house(serve, tmp_path):
    """A daemon with a control socket; `write(text)` changes its configuration, `handler(word)` its handler."""

    class House(Sockctl):
        def write(self, text, daemon=""):
            new = tmp_path / "new"
            new.write_text(f'[daemon]\ncontrol = "{self.path}"\n{daemon}\n{text}')
            os.replace(new, tmp_path / "sockd.toml")

        def handler(self, word):
            (tmp_path / "mine.py").write_text(HANDLER.replace("WORD", word))

        def start(self, text, daemon="", options=()):
            self.write(text, daemon)
            return serve(options=["-c", "sockd.toml", *options])

        def notes(self):
            return (tmp_path / "notes").read_text().split("\n")[:-1]

        def port(self):
            """One that is free now."""
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                return probe.getsockname()[1]

    return House(tmp_path)


def test_kept_added_removed(house, tmp_path):
    house.handler("one")
    kept, gone, new = (LISTEN.format(f"unix:{tmp_path}/{name}", "mine:service") for name in ("kept", "gone", "new"))
    server = house.start(kept + gone)
    old = server.connect(f"unix:{tmp_path}/kept")
    draining = server.connect(f"unix:{tmp_path}/gone")
    assert (old.ask(b"a"), draining.ask(b"a")) == (b"one a", b"one a")
    inode = (tmp_path / "kept").stat().st_ino
    house.handler("two")
    house.write(kept + new)
    changes = house.ask("reload")["changes"]
    assert changes["kept"] == [[f"unix:{tmp_path}/kept", "mine:service"]]
    assert changes["added"] == [[f"unix:{tmp_path}/new", "mine:service"]]
    assert changes["removed"] == [[f"unix:{tmp_path}/gone", "mine:service"]]
    assert old.ask(b"b") == b"one b"  # it keeps what it began with
    for name in ("kept", "new"):
        assert server.connect(f"unix:{tmp_path}/{name}").ask(b"c") == b"two c"
    assert (tmp_path / "kept").stat().st_ino == inode
    assert draining.to_end() == b""
    draining.close()
    assert not (tmp_path / "gone").exists()
    assert house.notes() == ["up one", "up two"]
    old.close()
    _until(lambda: house.notes() == ["up one", "up two", "down one"])
    server.stop()
    assert house.notes()[-1] == "down two"


def test_hooks_that_are_coroutines_run_at_a_reload_too(house, tmp_path):
    """Where asyncio's loop has had nothing to do yet, and where a session waits."""
    text = HANDLER.replace("import sockd\n", "import asyncio\nimport sockd\n")
    text = text.replace("def up():\n", "async def up():\n    await asyncio.sleep(0.01)\n")
    text = text.replace("def down():\n", "async def down():\n    await asyncio.to_thread(str)\n")
    text = text.replace("def answer(", "async def answer(")
    (tmp_path / "mine.py").write_text(text.replace("WORD", "one"))
    server = house.start(LISTEN.format("tcp://127.0.0.1:0", "mine:service"))
    for word in ("two", "three"):
        (tmp_path / "mine.py").write_text(text.replace("WORD", word))
        house.ask("reload")
        client = server.connect()
        assert client.ask(b"a") == word.encode() + b" a"
    assert house.notes() == ["up one", "up two", "down one", "up three"]
    client.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LISTEN.format("tpc://127.0.0.1:0", "upper"), "sockd.toml:8: listen[1].address: not an address"),
        (LISTEN.format("tcp://127.0.0.1:0", "broken:handler"), "importing 'broken' failed at"),
        (LISTEN.format("tcp://127.0.0.1:0", "leaves:handler"), "importing 'leaves' failed at"),
        (LISTEN.format("tcp://127.0.0.1:0", "lies:handler"), "importing 'lies' failed at"),
        (LISTEN.format("tcp://127.0.0.1:0", "interrupted:handler"), "interrupted.py:3: KeyboardInterrupt"),
        (LISTEN.format("tcp://127.0.0.1:{taken}", "upper"), "sockd.toml:8: listen[1].address: tcp://127.0.0.1:"),
        (LISTEN.format("fd:nothing", "upper"), "descriptors are passed only at a start"),
        (LISTEN.format("unix:/nowhere/s", "upper"), "sockd.toml:8: listen[1].address: unix:/nowhere/s: No such file"),
        (LISTEN.format("tcp://127.0.0.1:0", "failing:service"), "startup hook failed at"),
    ],
    ids=["text", "import", "exit", "lies", "attribute", "bind", "descriptor", "directory", "startup"],
)
def test_a_wrong_one_leaves_all_as_it_is(house, tmp_path, text, told):
    house.handler("one")
    first = LISTEN.format("tcp://127.0.0.1:0", "mine:service")
    server = house.start(first)
    (tmp_path / "broken.py").write_text("import mine\nraise ValueError(1)\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "lies.py").write_text(LIES)
    (tmp_path / "interrupted.py").write_text("\ndef __getattr__(name):\n    raise KeyboardInterrupt\n")
    (tmp_path / "failing.py").write_text(HANDLER.replace('note("up WORD")', "1 / 0").replace("WORD", "bad"))
    known = server.connect()
    assert known.ask(b"a") == b"one a"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        house.handler("two")
        house.write(LISTEN.format(f"unix:{tmp_path}/new", "upper") + text.format(taken=taken.getsockname()[1]))
        done = house.run("reload")
    assert done.returncode != 0
    assert told in done.stderr
    assert told[-20:] in server.wait_for("invalid configuration, keeping the previous one")["error"]
    status = house.ask("status")
    assert told[-20:] in status["reload"]["error"]
    assert "reload failed" in house.say("status")
    assert [row["address"] for row in status["listeners"]] == server.addresses[:1]
    assert not (tmp_path / "new").exists()
    assert (known.ask(b"b"), server.connect().ask(b"b")) == (b"one b", b"one b")
    house.write(first)
    assert house.ask("reload")["ok"]  # and it is not spoilt for the next one
    assert server.connect(server.addresses[0]).ask(b"c") == b"two c"
    assert known.ask(b"c") == b"one c"


def test_limits_count_on_over_a_reload(house):
    listen = LISTEN.format("tcp://127.0.0.1:0", "upper")
    limit = 'max_connections = {}\nat_limit = "refuse"\nbanner = "full"\n'
    server = house.start(listen + limit.format(2))
    first, second = server.connect(), server.connect()
    assert (first.ask(b"a"), second.ask(b"a")) == (b"A", b"A")
    assert server.connect().to_end() == b"full\n"
    house.say("reload")
    assert server.connect().to_end() == b"full\n"
    house.write(listen + limit.format(3))
    house.say("reload")
    third = server.connect()
    assert third.ask(b"a") == b"A"
    assert server.connect().to_end() == b"full\n"
    server.end_of(first)
    assert server.connect().ask(b"b") == b"B"


def test_sources_count_on_over_a_reload(house):
    listen = LISTEN.format("tcp://127.0.0.1:0", "upper") + 'max_connections_per_source = 1\nat_limit = "refuse"\n'
    server = house.start(listen)
    first = server.connect()
    assert first.ask(b"a") == b"A"
    house.say("reload")
    assert server.connect().to_end() == b""
    server.end_of(first)
    assert server.connect().ask(b"b") == b"B"


def test_datagrams_go_on(house):
    server = house.start(LISTEN.format("udp://127.0.0.1:0", "upper"))
    house.write(LISTEN.format("udp://127.0.0.1:0", "echo"))
    house.say("reload")
    peer = server.connect()
    peer.send(b"abc")
    assert peer.sock.recv(100) == b"abc"
    assert house.ask("status")["listeners"][0]["datagrams"]["received"] == 1
    house.write(LISTEN.format("tcp://127.0.0.1:0", "echo"))
    house.say("reload")
    peer.send(b"abc")
    with pytest.raises(ConnectionRefusedError):
        peer.sock.recv(100)


def test_programs_go_on_by_the_new_words(house):
    service = '[service.word]\nexec = ["/bin/sh", "-c", "{}"]\nuser = "{}"\n'
    service = LISTEN.format("tcp://127.0.0.1:0", "word") + service
    user = pwd.getpwuid(os.geteuid()).pw_name
    server = house.start(service.format("read line; echo one $line", user))
    first = server.connect()
    server.wait_for("program started")
    house.write(service.format("read line; echo two $line", user))
    house.say("reload")
    second = server.connect()
    assert first.finish_with(b"a\n") == b"one a\n"
    assert second.finish_with(b"a\n") == b"two a\n"


def test_what_is_for_the_next_start_is_said(house):
    listen = LISTEN.format("tcp://127.0.0.1:0", "upper")
    server = house.start(listen)
    house.write(listen + "reuse_port = true\n", daemon='max_connections = 7\nlog = { level = "debug" }')
    later = house.ask("reload")["changes"]["later"]
    assert later == ["daemon.max_connections", f"{server.addresses[0]}: reuse_port"]
    assert [e["what"] for e in server.having("takes effect at the next start")] == later
    house.say("log-level", "error")
    before = len(server.events)
    assert server.connect().ask(b"a") == b"A"
    assert "at the next start" not in house.say("reload")
    server.signal(signal.SIGHUP)
    server.wait_for("reloaded", count=2)  # the level is the configuration's again
    assert len(server.events) > before


def test_plan_tells_and_does_nothing(house, tmp_path):
    kept, gone = LISTEN.format("tcp://127.0.0.1:0", "upper"), LISTEN.format(f"unix:{tmp_path}/gone", "upper")
    server = house.start(kept + gone)
    port = house.port()
    house.write(kept + LISTEN.format(f"tcp://127.0.0.1:{port}", "echo"))
    text = house.say("plan", "sockd.toml")
    assert re.search(rf"  kept +{server.addresses[0]} +upper\n", text)
    assert re.search(rf"  added +tcp://127.0.0.1:{port} +echo\n", text)
    assert re.search(rf"  removed +unix:{tmp_path}/gone +upper\n", text)
    assert (tmp_path / "gone").exists()
    with pytest.raises(ConnectionRefusedError):
        server.connect(f"tcp://127.0.0.1:{port}")
    house.write(kept + LISTEN.format(server.addresses[0], "echo") + LISTEN.format("unix:/nowhere/s", "echo"))
    done = house.run("plan", "sockd.toml")
    assert done.returncode == 78
    assert "cannot be done     " in done.stdout
    assert "EADDRINUSE" in done.stdout
    assert "unix:/nowhere/s" in done.stdout
    house.write(LISTEN.format("tcp://127.0.0.1:0", "nothing:at_all"))
    assert "no module 'nothing'" in house.run("plan", "sockd.toml").stderr
    assert house.ask("status")["reload"] is None


def test_plan_imports_as_the_daemon_would(house, tmp_path):
    """Before, for a file elsewhere: exit 78, no module in the directory of that file."""
    (tmp_path / "mine.py").write_text("def answer(line):\n    return line\n")
    house.start(LISTEN.format("tcp://127.0.0.1:0", "upper"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "next.toml").write_text(
        f'[daemon]\ncontrol = "{house.path}"\n' + LISTEN.format("tcp://127.0.0.1:0", "mine:answer")
    )
    assert "mine:answer" in house.say("plan", "elsewhere/next.toml")
    assert house.ask("status")["configuration"] == str(tmp_path / "sockd.toml")


@pytest.mark.skipif(os.geteuid() != 0, reason="root starts it as somebody")
def test_plan_has_the_user_of_a_daemon_in_another_pid_namespace(sockd_script):
    """Seen failing: a process with its pid here was asked for the user, and programs were refused as root's."""
    with TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        (directory / "run").mkdir()
        os.chown(directory / "run", 65534, 65534)
        text = f'[daemon]\ncontrol = "{directory}/run/control"\n'
        text += LISTEN.format(f"unix:{directory}/run/s", "cat") + '[service.cat]\nexec = ["/bin/cat"]\n'
        (directory / "sockd.toml").write_text(text)
        command = ["unshare", "--pid", "--fork", "--kill-child", "setpriv", "--reuid=65534", "--regid=65534"]
        command += [
            "--clear-groups",
            "--inh-caps=+dac_override",
            "--ambient-caps=+dac_override",
        ]
        command += [sockd_script, "--foreground", "-c", directory / "sockd.toml"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as unshared:
            while "Ctrl-C" not in (line := unshared.stdout.readline()):
                assert line
            calls = (["plan", directory / "sockd.toml"], ["stop"])
            command = [SOCKCTL, "--control", directory / "run/control"]
            done, _ = (subprocess.run([*command, *one], capture_output=True, text=True, timeout=60) for one in calls)
    assert (done.returncode, done.stderr) == (0, "")
    assert " kept " in done.stdout


def test_plan_reads_the_variables_of_the_daemon(house, tmp_path, monkeypatch):
    """Seen failing: sockctl imported the handler that its own environment names, or none."""
    (tmp_path / "mine.py").write_text("def answer(line):\n    return line\n")
    monkeypatch.setenv("HANDLER", "mine:answer")
    house.start(LISTEN.format("tcp://127.0.0.1:0", "upper"))
    house.write(LISTEN.format("tcp://127.0.0.1:0", "${HANDLER}"))
    for own in ("nothing:at_all", None):
        monkeypatch.setenv("HANDLER", own) if own else monkeypatch.delenv("HANDLER")
        text = house.say("plan", "sockd.toml")
        assert re.search(r"mine:answer\n", text), text
    assert set(house.ask("plan", "sockd.toml")) == {"kept", "added", "removed", "later", "impossible"}
    house.write(LISTEN.format("tcp://127.0.0.1:0", "${NO_SUCH_NAME}"))
    monkeypatch.setenv("NO_SUCH_NAME", "upper")
    done = house.run("plan", "sockd.toml")
    assert (done.returncode, "NO_SUCH_NAME is not set in the environment of sockd; set it" in done.stderr) == (78, True)


def test_what_needs_rights_that_were_dropped(house, open_path, tmp_path, as_root):
    text = LISTEN.format("tcp://127.0.0.1:0", "upper")
    server = house.start(text, options=["--user", "nobody"])
    assert server.connect().ask(b"a") == b"A"
    house.write(text + LISTEN.format(f"unix:{tmp_path}/new", "upper"))
    assert "Permission denied (EACCES)" in house.run("plan", "sockd.toml").stdout
    done = house.run("reload")
    assert done.returncode == 77
    assert f"unix:{tmp_path}/new" in done.stderr
    assert "Permission denied" in done.stderr
    assert server.connect().ask(b"b") == b"B"


def test_drain_takes_one_listener_out(house, tmp_path):
    server = house.start(LISTEN.format("tcp://127.0.0.1:0", "upper") + LISTEN.format(f"unix:{tmp_path}/s", "upper"))
    tcp, unix = server.connect(), server.connect(f"unix:{tmp_path}/s")
    tcp.send(b"first\nhal")
    assert tcp.line() == b"FIRST\n"
    assert "draining" in house.say("drain", server.addresses[0])
    server.wait_for("no longer listening")
    tcp.send(b"f\n")
    assert tcp.to_end() == b"HALF\n"
    tcp.close()
    assert unix.ask(b"a") == b"A"
    assert server.addresses[0] not in [row["address"] for row in house.ask("status")["listeners"]]
    done = house.run("drain", "tcp://127.0.0.1:1")
    assert done.returncode == 64
    assert "no listener tcp://127.0.0.1:1; known: unix:" in done.stderr
    house.say("reload")
    assert len(house.ask("status")["listeners"]) == 2


def test_a_listener_that_comes_again_at_once(house, tmp_path):
    """It is still being emptied: that ends early, its connections are drained, and the new one has the address."""
    both = LISTEN.format("tcp://127.0.0.1:0", "upper") + LISTEN.format(f"unix:{tmp_path}/s", "upper")
    server = house.start(both)
    old = server.connect(f"unix:{tmp_path}/s")
    assert old.ask(b"a") == b"A"
    house.write(LISTEN.format("tcp://127.0.0.1:0", "upper"))
    house.ask_directly("reload")
    assert house.ask_directly("status")["draining"] == [f"unix:{tmp_path}/s"]
    house.write(both)
    house.ask_directly("reload")
    assert house.ask_directly("status")["draining"] == []
    assert old.to_end() == b""
    assert server.connect(f"unix:{tmp_path}/s").ask(b"b") == b"B"


def test_a_socks_service_that_is_added_asks_for_its_users(house, tmp_path):
    first = LISTEN.format(f"unix:{tmp_path}/first", "upper")
    server = house.start(first)
    (tmp_path / "users").write_text("alice:$scrypt$not-to-be-had\n")
    socks = f'[service.proxy]\nsocks = {{ users = "{tmp_path}/users", allow = ["loopback"] }}\n'
    house.write(first + LISTEN.format(f"unix:{tmp_path}/proxy", "proxy") + socks)
    done = house.run("reload")
    assert done.returncode == 78  # it is read, and its line is wrong
    assert "users" in done.stderr
    cheap = Scrypt(4, 8, 1, b"salt" * 4, bytes(32))
    (tmp_path / "users").write_text(f"alice:{Scrypt(4, 8, 1, cheap.salt, cheap.compute(b'secret'))}\n")
    assert house.run("reload").returncode == 0
    client = server.connect(f"unix:{tmp_path}/proxy")
    client.send(b"\5\1\0")
    assert client.to_end() == b"\5\xff"  # nobody who has not logged in


COUNTS = """
import gc
from sockd.net.listen.listener import Listener

KEPT = []

def answer(line, connection):
    if line == b"fail":
        KEPT.append(connection)
        raise ValueError(line)
    return b"%d" % sum(type(one) is Listener for one in gc.get_objects())
"""


def test_reloads_leave_nothing_behind_but_what_has_clients(house, tmp_path):
    """One old client keeps one generation, and a handler that keeps an ended connection keeps none of others."""
    (tmp_path / "counts.py").write_text(COUNTS)
    listeners, reloads = 5, 12
    server = house.start("".join(LISTEN.format(f"unix:{tmp_path}/{at}", "counts:answer") for at in range(listeners)))
    connect = lambda: server.connect(f"unix:{tmp_path}/0")  # noqa: E731 - one question, asked more than once
    old = connect()
    old.ask(b"")
    for _ in range(reloads):
        failing = connect()
        failing.finish_with(b"fail\n")
        failing.close()
        house.ask_directly("reload")

    def count():
        client = connect()
        try:
            return int(client.ask(b""))
        finally:
            client.close()

    _until(lambda: count() <= listeners + 1)
