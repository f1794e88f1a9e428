# SPDX-License-Identifier: MIT
"""`mode`, `owner` and `group` of a listener, as clients of other users find them: also over a reload and an upgrade.

Before there were the keys: exit 78, "unknown key".
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import subprocess

import pytest
from watching import _script

LIMIT_S = 60
NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a socket to another user")


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode), os.lstat(path).st_uid


def ask(path):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(LIMIT_S)
        peer.connect(path)
        peer.send(b"hello\n")
        return peer.recv(100)


def check(tmp_path, keys, address="unix:/run/greet.sock"):
    (tmp_path / "sockd.toml").write_text(f'[[listen]]\naddress = "{address}"\nservice = "upper"\n{keys}\n')
    words = [_script("sockd"), "--check", "-u", "nobody", "-c", tmp_path / "sockd.toml"]
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)


@needs_root
def test_kept_over_reload_and_upgrade(tmp_path):
    """The user that serves could not give the path away any more: what root did at the start stays."""
    tmp_path.chmod(0o777)
    path, control = f"{tmp_path}/greet.sock", f"{tmp_path}/control"
    config = tmp_path / "sockd.toml"
    text = f"""
        [daemon]
        user = "root"
        control = "{control}"
        log = {{ to = "{tmp_path}/log" }}
        [[listen]]
        address = "unix:{path}"
        service = "upper"
        mode = "0660"
        owner = "nobody"
    """
    config.write_text(text)

    def sockctl(verb):
        words = [_script("sockctl"), verb, "--control", control]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    started = subprocess.run([_script("sockd"), "-c", config], capture_output=True, text=True, timeout=LIMIT_S)
    assert started.returncode == 0, started.stderr
    try:
        assert (mode_of(path), ask(path)) == ((0o660, NOBODY.pw_uid), b"HELLO\n")
        sockctl("upgrade")
        assert (mode_of(path), ask(path)) == ((0o660, NOBODY.pw_uid), b"HELLO\n")
        config.write_text(text.replace("0660", "0600"))
        assert "mode" in sockctl("reload")  # named as one for the next start
        assert (mode_of(path), ask(path)) == ((0o660, NOBODY.pw_uid), b"HELLO\n")
    finally:
        sockctl("stop")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('mode = "rw"', '"rw" is no mode in octal; write one such as "0660"'),
        ('mode = "4755"', '"4755" is no mode in octal'),
        ('owner = "nobdy"', '"nobdy" is not a user of this host; did you mean "nobody"'),
    ],
)
def test_what_cannot_be(tmp_path, keys, words):
    done = check(tmp_path, keys, f"unix:{tmp_path}/s")
    assert done.returncode == 78, done.stdout
    assert words in done.stderr


def test_of_paths_alone(tmp_path):
    done = check(tmp_path, 'mode = "0660"', "tcp://127.0.0.1:7000")
    assert done.returncode == 78
    assert "is for the path of a Unix socket, and this listener has none" in done.stderr


def test_a_passed_socket_keeps_the_mode_that_systemd_gave_it(managed, bound, tmp_path):
    sock = bound("unix")
    path = sock.getsockname()
    os.chmod(path, 0o620)
    (tmp_path / "sockd.toml").write_text(f'[[listen]]\naddress = "unix:{path}"\nservice = "upper"\nmode = "0600"\n')
    unit = managed(words=["--foreground", "-c", f"{tmp_path}/sockd.toml"], sockets=[("web", sock)])
    unit.wait_for("passed=web")
    assert mode_of(path)[0] == 0o620
    unit.process.send_signal(signal.SIGTERM)
    unit.end()
