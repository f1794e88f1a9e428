# SPDX-License-Identifier: MIT
"""What a handler's module does to the process it is imported in: ends it, takes its signals, its log, its wake-up.

Seen to fail: SystemExit at import ended a daemon that reloaded, and gave `--check` and a start exit 0 in silence; a
module that sets handlers had TERM ignored; one with dictConfig() silenced the log; one that forks left children that
TERM does not end.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from serving import STAY_ROOT
from watching import _until

ANSWER = "\ndef answer(line):\n    return line.upper()\n"
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:answer"\n'
ENDS = {
    "sys.exit()": "import sys\nsys.exit()\n",
    "exit code 0": "raise SystemExit(0)\n",
    "argparse": "import argparse\nargparse.ArgumentParser().parse_args(['--nosuch'])\n",
    "KeyboardInterrupt": "raise KeyboardInterrupt\n",
    "GeneratorExit": "raise GeneratorExit('x')\n",
    "a BaseException": "class Own(BaseException):\n    pass\nraise Own('mine')\n",
}
WORKERS = "[daemon]\nworkers = 2\n"


def write(directory, app, toml=LISTEN):
    (directory / "app.py").write_text(app)
    (directory / "sockd.toml").write_text(toml)


# ---- it ends the program


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("words", [["--check"], ["-T"], ["-f"]])
def test_a_module_that_ends_the_program_is_refused(tmp_path, sockd_script, how, words):
    write(tmp_path, ENDS[how] + ANSWER)
    command = [sockd_script, *STAY_ROOT, "-c", "sockd.toml", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    where = f"sockd.toml:3: listen[0].service: app:answer: importing 'app' failed at {tmp_path.resolve()}/app.py:"
    assert where in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ENDS)
def test_it_is_refused_in_the_background(background, how):
    one = background(app=ENDS[how] + ANSWER, service="app:answer")
    assert one.code == 78
    assert "importing 'app' failed at" in one.words
    assert not one.alive


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("top", ["", WORKERS])
def test_a_reload_of_it_leaves_all_as_it_is(daemon, how, top):
    one = daemon(toml=top + LISTEN, app=ANSWER)
    (one.directory / "app.py").write_text(ENDS[how] + ANSWER)
    one.process.send_signal(signal.SIGHUP)
    told = one.wait_for("invalid configuration, keeping the previous one")
    assert "app.py:" in told["error"]
    assert one.ask(b"still\n") == b"STILL\n"
    (one.directory / "app.py").write_text(ANSWER.replace("upper", "title"))
    one.process.send_signal(signal.SIGHUP)
    one.wait_for("reloaded")
    assert one.ask(b"anew\n") == b"Anew\n"
    one.other.clear()  # argparse's own words


@pytest.mark.parametrize("attribute", ["prop", "call"])
def test_a_handler_that_cannot_be_looked_at_is_refused(launch, tmp_path, attribute):
    app = """
class Odd:
    @property
    def prop(self):
        raise SystemExit(3)
    class call:
        @property
        def __signature__(self):
            raise SystemExit(3)
        def __call__(self, line):
            return line
    call = call()
odd = Odd()
"""
    (tmp_path / "strange.py").write_text(app)
    one = launch("-f", "-l", f"tcp://127.0.0.1:0=strange:odd.{attribute}")
    assert one.wait() == 78
    assert "SystemExit: 3" in one.said()


# ---- it takes the signals

TAKES_SIGNALS = """
import signal

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
    signal.signal(number, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
signal.set_wakeup_fd(-1)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP])
"""
IN_A_HOOK = """
import sockd

service = sockd.Service()
service.frame(bytes.upper)

@service.startup
def up():
    import signal
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

answer = service
"""


@pytest.mark.parametrize("top", ["", WORKERS])
@pytest.mark.parametrize("app", [TAKES_SIGNALS + ANSWER, IN_A_HOOK])
def test_signals_stay_ours(daemon, app, top):
    """fails without reclaim(): TERM is ignored, at the start or behind the reload"""
    one = daemon(toml=top + LISTEN, app=app)
    assert one.ask(b"a\n") == b"A\n"
    for count in (1, 2):
        one.process.send_signal(signal.SIGHUP)
        one.wait_for("reloaded", count=count)
    assert one.ask(b"b\n") == b"B\n"
    one.let_clients_go()
    assert one.stop(signal.SIGTERM) == 0
    assert one.logged("stopped")


def test_a_second_term_is_ours_as_well(daemon):
    app = TAKES_SIGNALS + "\ndef answer(line):\n    open('in', 'w').close()\n    while True:\n        pass\n"
    one = daemon(toml=LISTEN, app=app, may_die=True)
    one.process.send_signal(signal.SIGHUP)
    one.wait_for("reloaded")
    one.connect().sendall(b"x\n")
    _until((one.directory / "in").exists)
    assert one.stop(signal.SIGINT, within=3) == -signal.SIGINT
    assert one.logged("ended by force")


def test_a_process_that_a_handler_forks_is_ended_by_term(daemon):
    """fails without the hook of the fork: terminate() of multiprocessing is noted by nobody, and join() waits"""
    app = """
import multiprocessing
import time

def answer(line):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
    child.start()
    child.terminate()
    child.join(10)
    code = child.exitcode
    child.kill()
    return str(code).encode()
"""
    one = daemon(toml=LISTEN, app=app)
    assert one.ask(b"x\n") == b"-15\n"
    assert one.ask(b"y\n") == b"-15\n"


# ---- it takes the log

TAKES_THE_LOG = {
    "dictConfig": 'import logging.config\nlogging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})\n',
    "a handler of its own": 'import logging.config\nlogging.config.dictConfig({"version": 1, "handlers": '
    '{"own": {"class": "logging.FileHandler", "filename": "own.log"}}, '
    '"root": {"level": "ERROR", "handlers": ["own"]}})\n',
    "basicConfig": "import logging\nlogging.basicConfig(force=True, level=50, handlers=[logging.NullHandler()])\n",
    "disable": "import logging\nlogging.disable()\n",
    "our own logger": 'import logging.config\nlogging.config.dictConfig({"version": 1, "loggers": '
    '{"sockd": {"level": "CRITICAL", "propagate": False}, "sockd.daemon": {"level": "CRITICAL"}}})\n',
    "a record factory that fails": "import logging\nlogging.setLogRecordFactory(lambda *args, **more: 1 / 0)\n",
    "a record factory that lies": "import logging\nlogging.setLogRecordFactory(lambda *args, **more: None)\n",
    "closed standard streams": "import os\nfor fd in range(3):\n    os.close(fd)\n",
    "shutdown": "import logging\nlogging.shutdown()\nlogging.getLogger().handlers.clear()\n",
}


@pytest.mark.parametrize("how", TAKES_THE_LOG)
@pytest.mark.parametrize("to", ["stderr", "file"])
def test_the_log_goes_on(background, daemon, how, to):
    """fails without log.kept(): nothing of it is written, or the file is closed"""
    app = TAKES_THE_LOG[how] + ANSWER
    if to == "file":
        one = background(app=app, service="app:answer")
        assert one.ask(b"a\n") == b"A\n\n"
        one.send(signal.SIGHUP)
        one.wait_for("reloaded")
        assert one.ask(b"b\n") == b"B\n\n"
        one.wait_for("closed", 2)
        one.stop()
        assert one.logged("stopped")
    else:
        one = daemon(toml=LISTEN, app=app)
        one.process.send_signal(signal.SIGHUP)
        one.wait_for("reloaded")
        assert one.ask(b"b\n") == b"B\n"
        one.closed()
        assert one.stop() == 0
        assert one.logged("stopped")
        assert [line for line in one.lines if line["level"] == "info"]


def test_the_level_stays(daemon, tmp_path):
    toml = f'[daemon]\nlog = {{ level = "warning" }}\ncontrol = "{tmp_path}/c"\n' + LISTEN
    app = (
        "import logging\nlogging.basicConfig(force=True, level=logging.DEBUG)\nlogging.getLogger('sockd').setLevel(1)\n"
    )
    one = daemon(toml=toml, app=app + ANSWER, listeners=0)
    _until((tmp_path / "c").exists)
    one.process.send_signal(signal.SIGUSR1)
    assert one.stop() == 0
    assert {line["level"] for line in one.lines} <= {"warning", "error"}
    assert not [line for line in one.other if "INFO" in line]
    one.other.clear()  # what the module's own handler writes


def test_interrupting_a_check_is_no_mistake_of_the_module(tmp_path, sockd_script):
    os.mkfifo(tmp_path / "fifo")
    write(tmp_path, "open('fifo').read()\n" + ANSWER)
    process = subprocess.Popen([sockd_script, "--check", "-c", "sockd.toml"], cwd=tmp_path, stderr=subprocess.PIPE)
    with open(tmp_path / "fifo", "w"):
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=20)
    assert (process.returncode, words) == (-signal.SIGINT, b"")
