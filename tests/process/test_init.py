# SPDX-License-Identifier: MIT
"""sockd as process 1 of a PID namespace, as in a container: orphans are reaped, an upgrade is refused.

Seen to fail without the init: orphans stay as zombies; `sockctl upgrade` says "upgraded", and everything ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import psutil
import pytest
import stuck
from controlling import Sockctl
from watching import _until

APP = """
import os
import subprocess

def orphan(line):
    subprocess.run(["sh", "-c", "sleep 0.05 &"])
    return b"%d" % os.getpid()

def own(line):
    # a child of a handler's own, which ends and is waited for late
    child = subprocess.Popen(["sh", "-c", "exit 7"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    subprocess.run(["sh", "-c", "sleep 0.05 &"])
    return b"%d" % child.wait()

def zombies(line):
    states = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    states.append(file.read().rpartition(")")[2].split()[0])
            except OSError:
                pass
    return b"%d %d" % (states.count("Z"), len(states))

def stuck(line):
    while True:
        pass
"""


@pytest.fixture
def contained(daemon, tmp_path, as_root):
    """Start sockd as process 1."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here")
    prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")

    def start(top="", **more):
        toml = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n{top}'
        for name in ("orphan", "own", "zombies", "stuck"):
            toml += f'[[listen]]\naddress = "unix:{tmp_path}/{name}"\nservice = "app:{name}"\n'
        one = daemon(toml=toml, app=APP, prefix=prefix, may_die=True, **more)
        (init,) = psutil.Process(one.pid).children()
        one.init = init.pid
        return one

    return start


@pytest.mark.parametrize("top", ["", "workers = 2\n"])
def test_orphans_are_reaped_and_a_handlers_own_are_not(contained, top):
    one = contained(top)
    for _ in range(5):
        assert int(one.ask(b"x\n", 0)) > 1
        assert one.ask(b"x\n", 1) == b"7\n"
    _until(lambda: one.ask(b"x\n", 2).split()[0] == b"0")
    one.let_clients_go()
    os.kill(one.init, signal.SIGTERM)
    assert one.process.wait(20) == 0
    one.kill()
    assert one.logged("stopped")


def test_signals_reach_the_daemon(contained):
    one = contained()
    os.kill(one.init, signal.SIGHUP)
    one.wait_for("reloaded")
    one.connect(3).sendall(b"x\n")
    one.wait_for("event loop stalled", handler="app:stuck")
    ends = stuck.Ends(one.init)
    os.kill(one.init, signal.SIGTERM)
    os.kill(one.init, signal.SIGINT)  # of two of a kind the kernel may make one, on the second half of their way
    assert ends.wait(10) < 1.0 + stuck.SLACK_S
    assert one.process.wait(10) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert one.wait_for("ended by force")["at"].endswith(("app.py:28", "app.py:29"))


def test_an_upgrade_is_refused_with_the_reason(contained, tmp_path):
    one = contained()
    done = Sockctl(tmp_path).run("upgrade")
    assert done.returncode == 71
    assert "process 1 of this container exits with this process" in done.stderr
    assert one.ask(b"x\n", 0)
    one.let_clients_go()
    os.kill(one.init, signal.SIGTERM)
    assert one.process.wait(20) == 0


def test_in_the_background_it_is_refused(tmp_path, sockd_script, as_root):
    toml = f'[daemon]\nuser = "root"\n[[listen]]\naddress = "unix:{tmp_path}/s"\nservice = "upper"\n'
    (tmp_path / "sockd.toml").write_text(toml)
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--", sockd_script, "-c", "sockd.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, "use --foreground" in done.stderr) == (64, True)
