# SPDX-License-Identifier: MIT
"""examples/finger.py asked by the real finger(1), which knows port 79 alone: of a daemon that has no rights left.

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
from programs import needs

KEPT = ("Uid", "Gid", "Groups", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapAmb")


@pytest.fixture
def space(as_root):
    name = f"sockd-{uuid.uuid4().hex[:8]}"
    if shutil.which("ip") is None or subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        pytest.skip("a network namespace cannot be made here")
    words = ("ip", "netns", "exec", name)
    subprocess.run([*words, "ip", "link", "set", "lo", "up"], check=True)
    yield words
    subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def daemon(background, space, examples, open_path):
    (open_path / "empty").mkdir()
    return background(
        daemon=f'user = "nobody"\nchroot = "{open_path}/empty"',
        listen="tcp://127.0.0.1:finger",
        service="app:service",
        app=(examples / "finger.py").read_text(),
        environment={"FINGER_PEOPLE": str(examples / "finger.people")},
        prefix=space,
    )


@needs("finger", "finger")
def test_finger_is_answered_by_nobody(daemon, space, run):
    assert daemon.code == 0, daemon.words
    assert daemon.addresses == ["tcp://127.0.0.1:79"]

    def finger(*words):
        return run(*space, "finger", *words).stdout.decode().replace("\r\n", "\n")

    said = finger("ann@127.0.0.1")
    assert "Login: ann" in said
    assert "\tPlan: water the plants.\n" in said
    assert "Login: bob" in finger("-l", "bob@127.0.0.1")
    everybody = finger("@127.0.0.1")
    assert [line.split()[1] for line in everybody.splitlines() if "Login:" in line] == ["ann", "bob"]
    assert "No such user" in finger("eve@127.0.0.1")
    assert "Finger forwarding service denied" in finger("ann@localhost@127.0.0.1")
    print(said)  # noqa: T201 - seen by pytest -rP
    nobody = pwd.getpwnam("nobody")
    for thread in os.listdir(f"/proc/{daemon.pid}/task"):
        status = status_of(daemon.pid, int(thread))
        print(f"thread {thread}:", *(f"{key} {' '.join(status[key])};" for key in KEPT))  # noqa: T201 - seen by pytest -rP
        assert status["Uid"] == [str(nobody.pw_uid)] * 4
        assert status["Gid"] == [str(nobody.pw_gid)] * 4
        assert status["Groups"] == [str(nobody.pw_gid)]
        assert [int(status[key][0], 16) for key in KEPT[4:]] == [0] * 4
