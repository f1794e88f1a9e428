"""The real finger(1), which knows port 79 alone, is answered by a daemon that has no rights left ("Shows" 4).

In a network namespace of its own.  What /proc tells of the daemon is printed (pytest -s, -rP).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import uuid

import pytest
from background import status_of

FINGERD = """
import sockd
def finger(line):
    who = line.removeprefix(b"/W").strip()
    raise sockd.Close(b"Login: " + (who or b"(everybody)"))  # the server closes (RFC 1288, 2.3)
"""
KEPT = ("Uid", "Gid", "Groups", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapAmb")


@pytest.fixture
def space(as_root):
    if shutil.which("finger") is None:
        pytest.skip("needs finger(1)")
    name = f"sockd-{uuid.uuid4().hex[:8]}"
    if shutil.which("ip") is None or subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        pytest.skip("a network namespace cannot be made here")
    words = ("ip", "netns", "exec", name)
    subprocess.run([*words, "ip", "link", "set", "lo", "up"], check=True)
    yield words
    subprocess.run(["ip", "netns", "delete", name], check=True)


def test_finger_is_answered_by_nobody(background, space, run, open_path):
    (open_path / "empty").mkdir()
    one = background(
        daemon=f'user = "nobody"\nchroot = "{open_path}/empty"',
        listen="tcp://127.0.0.1:finger",
        service="app:finger",
        app=FINGERD,
        prefix=space,
    )
    assert one.code == 0, one.words
    assert one.addresses == ["tcp://127.0.0.1:79"]
    done = run(*space, "finger", "alice@127.0.0.1")
    assert b"Login: alice" in done.stdout
    assert b"Login: bob" in run(*space, "finger", "-l", "bob@127.0.0.1").stdout
    print(done.stdout.decode())  # noqa: T201 - seen by pytest -rP
    nobody = pwd.getpwnam("nobody")
    for thread in os.listdir(f"/proc/{one.pid}/task"):
        status = status_of(one.pid, int(thread))
        print(f"thread {thread}:", *(f"{key} {' '.join(status[key])};" for key in KEPT))  # noqa: T201
        assert status["Uid"] == [str(nobody.pw_uid)] * 4
        assert status["Gid"] == [str(nobody.pw_gid)] * 4
        assert status["Groups"] == [str(nobody.pw_gid)]
        assert [int(status[key][0], 16) for key in KEPT[4:]] == [0] * 4
