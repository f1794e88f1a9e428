# SPDX-License-Identifier: MIT
"""A second TERM, or one INT or QUIT, ends the process within a second, whatever a handler does; the log says at what.

Seen to fail before stop_bound.c: every one of the matrix ran on, and only KILL ended it; without the bound of the first
TERM a thread, a job of an executor, a hook and a function of atexit outlived stop_timeout for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from functools import partial

import psutil
import pytest
import stuck
from watching import SOAK, _until

MODES = ("foreground", "background", "reload", "workers")
SHARE = {  # in CI: each kind, each mode and each signal, and what is most different
    ("python", "foreground", "TERM"), ("python", "workers", "TERM"), ("python", "reload", "INT"),
    ("sleep", "foreground", "INT"), ("sleep", "background", "TERM"), ("c_with_lock", "foreground", "TERM"),
    ("c_with_lock", "workers", "INT"), ("c_with_lock", "reload", "TERM"), ("c_with_lock", "background", "INT"),
    ("c_without_lock", "foreground", "TERM"), ("lock", "workers", "TERM"), ("lock", "foreground", "TERM"),
    ("blocking", "foreground", "TERM"), ("blocking", "workers", "INT"), ("coroutine", "foreground", "TERM"),
}  # fmt: skip
ALL = [*itertools.product(stuck.KINDS, MODES, ("TERM", "INT"))]
CASES = [case for case in ALL if SOAK or case in SHARE]


class House:
    """A daemon in one of the modes.

    Attributes:
        main: whom signals are sent to.
        directory: with `entered`, and `log` in the background.
    """

    def __init__(self, main, directory, said, address) -> None:
        self.main, self.directory, self.said, self.address = main, directory, said, address
        self._clients = []

    def get_stuck(self) -> None:
        host, port = self.address.removeprefix("tcp://").split(":")
        client = socket.create_connection((host, int(port)), timeout=20)
        self._clients.append(client)
        client.sendall(b"x\n")
        _until(
            lambda: (self.directory / "entered").exists() and (self.directory / "entered").read_text().endswith("\n")
        )

    def processes(self) -> list[int]:
        return [self.main, *(one.pid for one in psutil.Process(self.main).children(recursive=True))]

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def house(daemon, background, launch, tmp_path):
    houses = []

    def start(kind, mode, options="", app=stuck.APP) -> House:
        workers = "workers = 2\n" if mode == "workers" else ""
        toml = stuck.toml(kind, daemon=workers + options)
        if mode == "background":
            head, _, rest = toml.partition("[[listen]]")
            one = background(daemon=head.removeprefix("[daemon]\n"), toml="[[listen]]" + rest, app=app)
            assert one.code == 0, one.words
            houses.append(House(one.pid, one.log.parent, lambda: one.lines, one.addresses[0]))
        elif mode == "reload":
            (tmp_path / "sockd.toml").write_text(toml)
            words = ["-f", "--reload", "--log-format", "json", "-c", "sockd.toml"]
            server = launch(*words)
            (tmp_path / "app.py").write_text(app)
            _until(lambda: server.having("listening"), 20)
            houses.append(House(server.process.pid, tmp_path, lambda: server.events, server.addresses[-1]))
        else:
            one = daemon(toml=toml, app=app, may_die=True)
            houses.append(House(one.pid, one.directory, lambda: one.lines, one.address()))
        return houses[-1]

    yield start
    for one in houses:
        one.close()


@pytest.mark.parametrize(("kind", "mode", "how"), CASES)
def test_it_ends_within_a_second_and_says_at_what(house, kind, mode, how):
    one = house(kind, mode)
    one.get_stuck()
    processes = one.processes()
    ends = stuck.Ends(*processes)
    if how == "TERM":
        stuck.send(one.main, signal.SIGTERM, _until)
    os.kill(one.main, getattr(signal, f"SIG{how}"))
    is_passed_on = (how, mode) == ("TERM", "reload")
    again = partial(os.kill, one.main, signal.SIGTERM) if is_passed_on else None
    assert ends.wait(10, again) < 1.0 + stuck.SLACK_S
    assert_named(one, kind)


def assert_named(one, kind):
    def told():
        lines = [line for line in one.said() if line["message"] in ("ended by force", "handler did not end in time")]
        return [line["at"] for line in lines if "app.py:" in line.get("at", "")]

    at = _until(told)[0]
    assert at.startswith(f"{one.directory.resolve()}/app.py:"), at
    assert int(at.rpartition("app.py:")[2].split()[0]) in stuck.lines_of(kind), at


def test_quit_does_the_same_and_leaves_no_core(house):
    one = house("python", "foreground")
    one.get_stuck()
    ends = stuck.Ends(one.main)
    os.kill(one.main, signal.SIGQUIT)
    assert ends.wait(10) < 1.0 + stuck.SLACK_S
    assert_named(one, "python")
    assert list(one.directory.glob("core*")) == []


def test_a_first_term_leaves_an_orderly_stop_its_time(house):
    one = house("c_with_lock", "foreground")
    one.get_stuck()
    stuck.send(one.main, signal.SIGTERM, _until)
    with pytest.raises(AssertionError, match="have not ended"):
        stuck.Ends(one.main).wait(1.5)  # stop_timeout is 60 s
    ends = stuck.Ends(one.main)
    os.kill(one.main, signal.SIGTERM)
    ends.wait(10)


def test_a_handler_that_hangs_holds_up_the_first_term_no_longer_than_stop_timeout(house):
    one = house("python", "foreground", "", app=stuck.APP)
    toml = stuck.toml("python").replace('"60s"', '"500ms"')
    (one.directory / "sockd.toml").write_text(toml)
    os.kill(one.main, signal.SIGHUP)
    _until(lambda: [line for line in one.said() if line["message"] == "reloaded"])
    one.get_stuck()
    ends = stuck.Ends(one.main)
    os.kill(one.main, signal.SIGTERM)
    assert 0.5 < ends.wait(10) < 0.5 + 2.0 + 1.0
    assert_named(one, "python")


@pytest.mark.parametrize("workers", [1, 2])
def test_its_places_are_found_by_the_next_start_as_after_a_kill(daemon, tmp_path, workers):
    """Unix paths, the control socket and the pid file: fails if a start refuses what the end has left."""
    own = f'pidfile = "{tmp_path}/pid"\ncontrol = "{tmp_path}/control"\nworkers = {workers}\n'
    toml = stuck.toml("python", f"unix:{tmp_path}/sock", own)
    one = daemon(toml=toml, app=stuck.APP, may_die=True)
    peer = one.connect()
    peer.sendall(b"x\n")
    _until((one.directory / "entered").exists)
    pids = [one.pid, *(child.pid for child in psutil.Process(one.pid).children())]
    ends = stuck.Ends(*pids)
    os.kill(one.pid, signal.SIGINT)
    ends.wait(5)
    assert os.path.lexists(tmp_path / "sock") or workers > 1
    again = daemon(toml=toml, app=stuck.APP.replace("def python(line):", "def python(line):\n    return line"))
    assert again.ask(b"again\n") == b"again\n"
    assert (tmp_path / "pid").read_text().strip() == str(again.pid)


# ---- what an orderly stop is held up by

HELD_UP = {
    "a thread": "threading.Thread(target=time.sleep, args=(3600,)).start()",
    "a thread in user code": "threading.Thread(target=rest).start()",
    "an executor's job": "pool.submit(rest)",
    "a shutdown hook": "service.shutdown(rest)",
    "a function of atexit": "atexit.register(rest)",
}
HOLDS_UP = """
import atexit
import concurrent.futures
import threading
import time

import sockd

service = sockd.Service()
service.frame(bytes.upper)
pool = concurrent.futures.ThreadPoolExecutor()


def rest():
    time.sleep(3600)  # line 15


{}
"""


@pytest.mark.parametrize("how", HELD_UP)
def test_an_orderly_stop_is_held_up_by_nothing(daemon, how):
    toml = '[daemon]\nstop_timeout = "700ms"\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:service"\n'
    one = daemon(toml=toml, app=HOLDS_UP.format(HELD_UP[how]), may_die=True)
    assert one.ask(b"x\n") == b"X\n"
    began = time.monotonic()
    one.stop(within=20)
    took = time.monotonic() - began
    assert 0.65 < took < 0.7 + 2.0 + 1.0  # stop_timeout, its margin, and a busy machine
    (line,) = one.logged("ended by force")
    if how != "a thread":
        assert line["at"].endswith("app.py:15"), line
    assert one.logged("stopped") or how == "a shutdown hook"


def test_a_job_of_asyncios_executor_does_not_either(daemon):
    app = """
import asyncio
import time

def rest():
    time.sleep(3600)

async def session(reader, writer):
    async for line in reader:
        asyncio.get_running_loop().run_in_executor(None, rest)
        writer.write(line)
"""
    toml = '[daemon]\nstop_timeout = "700ms"\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:session"\n'
    one = daemon(toml=toml, app=app, may_die=True)
    assert one.ask(b"x\n") == b"x\n"
    one.let_clients_go()
    began = time.monotonic()
    one.stop(within=20)
    assert time.monotonic() - began < 0.7 + 2.0 + 1.0
    assert [line["at"].rpartition("app.py:")[2] for line in one.logged("ended by force")] == ["6"]


def test_a_thread_that_ends_in_time_is_waited_for(daemon, tmp_path):
    app = f"""
import threading
import time

def last():
    threading.main_thread().join()
    time.sleep(0.2)
    open({str(tmp_path / "done")!r}, "w").close()

threading.Thread(target=last).start()

def answer(line):
    return line
"""
    one = daemon("tcp://127.0.0.1:0=app:answer", app=app)
    assert one.stop() == 0
    assert (tmp_path / "done").exists()


LAST = """
import os
import signal

kinds = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


class Last:  # modules are taken down behind everything else that Python runs at its end
    def __del__(self, pid=os.getpid(), kill=os.kill, kinds=kinds, write=os.write, fd=os.open({!r}, os.O_WRONLY)):
        for number in kinds:
            kill(pid, number)
        write(fd, b"all sent")


last = Last()


def answer(line):
    return line
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_what_comes_in_its_last_moments_changes_nothing(daemon, tmp_path, workers):
    """fails with handlers of Python's until the end, which CPython sets to their defaults: HUP ends it, not 0"""
    (tmp_path / "sent").touch()
    toml = f'[daemon]\nworkers = {workers}\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:answer"\n'
    one = daemon(toml=toml, app=LAST.format(str(tmp_path / "sent")))
    assert one.ask(b"x\n") == b"x\n"
    one.let_clients_go()
    assert one.stop() == 0
    assert (tmp_path / "sent").read_text() == "all sent"


SLOW_END = """
import builtins, time

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(5)

builtins.slow = Slow()  # what there is until the interpreter itself ends

def answer(line):
    return line
"""


def test_an_interpreter_that_is_slow_to_end_was_stopped_in_order(daemon):
    """fails where the bound ends it by the signal that asked: -2"""
    one = daemon(toml='[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:answer"\n', app=SLOW_END)
    one.let_clients_go()
    began = time.monotonic()
    os.kill(one.process.pid, signal.SIGINT)
    assert one.process.wait(10) == 0
    assert time.monotonic() - began < 3


# ---- where the last line goes


@pytest.mark.parametrize("format", ["text", "json"])
def test_the_last_line_is_one_of_the_log(launch, tmp_path, format):
    (tmp_path / "app.py").write_text(stuck.APP)
    log = tmp_path / "log"
    options = f'log = {{ to = "{log}", format = "{format}" }}\n'
    address = f"unix:{tmp_path}/s"
    (tmp_path / "sockd.toml").write_text(stuck.toml("sleep", address, options))
    server = launch("-f", "-c", "sockd.toml")
    (tmp_path / "app.py").write_text(stuck.APP)
    server.wait_until(lambda: "Press Ctrl-C to stop." in server.output, "the greeting")
    client = server.connect(address)
    client.send(b"x\n")
    _until((tmp_path / "entered").exists)
    server.signal(signal.SIGUSR1)
    os.rename(log, tmp_path / "log.1")
    server.signal(signal.SIGINT)
    assert server.wait() == -signal.SIGINT
    last = (tmp_path / "log.1").read_text().splitlines()[-1]
    if format == "json":
        line = json.loads(last)
        assert (line["message"], line["signal"], line["level"]) == ("ended by force", "INT", "error")
        assert line["stack"].startswith(line["at"])
    else:
        assert ' error ended by force signal=INT at="' in last
        assert last.startswith("20")
        assert last.endswith(' sleep"')


def test_a_log_that_nobody_reads_does_not_keep_it(tmp_path, sockd_script):
    """The pipe is full: fails with a write that waits for a reader."""
    (tmp_path / "app.py").write_text(stuck.APP)
    (tmp_path / "sockd.toml").write_text(stuck.toml("python", f"unix:{tmp_path}/s"))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    words = [sockd_script, "-u", "root", "-f", "-c", "sockd.toml"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    try:
        _until((tmp_path / "s").exists, 20)
        with socket.socket(socket.AF_UNIX) as peer:
            _until(lambda: peer.connect_ex(f"{tmp_path}/s") == 0)
            peer.sendall(b"x\n")
            _until((tmp_path / "entered").exists)
            ends = stuck.Ends(process.pid)
            process.send_signal(signal.SIGINT)
            assert ends.wait(10) < 1.0 + stuck.SLACK_S
    finally:
        process.kill()
        process.wait()
        os.close(reader)
