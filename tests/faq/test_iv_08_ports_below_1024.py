# SPDX-License-Identifier: MIT
"""IV.8: how can my server bind a port below 1024? - as root, and it serves as nobody, with no way back.

In a network namespace of its own, so that the port is free.  Seen to fail: with setresuid left out.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import uuid

import pytest
from background import status_of


@pytest.fixture
def space(as_root):
    """A network namespace with loopback: the words that run a program in it."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip(8), of iproute2")
    name = f"sockd-{uuid.uuid4().hex[:8]}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        pytest.skip("a network namespace cannot be made here")
    words = ("ip", "netns", "exec", name)
    subprocess.run([*words, "ip", "link", "set", "lo", "up"], check=True)
    yield words
    subprocess.run(["ip", "netns", "delete", name], check=True)


def test_bound_as_root_and_served_as_nobody(background, space, sockctl_script, open_path):
    one = background(
        daemon='user = "nobody"', listen="tcp://127.0.0.1:finger", service="app:tell", prefix=space,
        app="import os\ndef tell(line):\n    return b'%d %d' % (os.getuid(), os.geteuid())\n",
    )  # fmt: skip
    assert one.code == 0, one.words
    assert one.addresses == ["tcp://127.0.0.1:79"]
    words = [*space, sockctl_script, "connect", "tcp://127.0.0.1:79"]
    answer = subprocess.run(words, input=b"who\n", capture_output=True, timeout=30)
    nobody = pwd.getpwnam("nobody")
    assert answer.stdout == b"%d %d\n" % (nobody.pw_uid, nobody.pw_uid)
    for thread in os.listdir(f"/proc/{one.pid}/task"):
        status = status_of(one.pid, thread)
        assert status["Uid"] == [str(nobody.pw_uid)] * 4
        assert status["Gid"] == [str(nobody.pw_gid)] * 4
        assert status["Groups"] == [str(nobody.pw_gid)]
        assert [int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4


def test_any_program_by_sockctl_bind(space, sockctl_script):
    words = [*space, sockctl_script, "bind", "--user", "nobody", "tcp://127.0.0.1:79", "--"]
    done = subprocess.run(
        [*words, "sh", "-c", "echo $LISTEN_FDS; id -u; cat /proc/self/net/tcp"], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[:2] == ["1", str(pwd.getpwnam("nobody").pw_uid)]
    assert "0100007F:004F" in done.stdout
