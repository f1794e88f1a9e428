# SPDX-License-Identifier: MIT
"""`--control` of sockctl, before the verb or behind it, and what is said to those who may not use the socket.

Before: exit 64, `unrecognized arguments`; "Permission denied; is it running?".
"""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
from watching import _script

from sockd.cli.verbs.admin import ask
from sockd.errors import PermissionFault
from sockd.wire.control import ControlRequest

LIMIT_S = 60


def sockctl(*words, **options):
    words = [_script("sockctl"), *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, **options)


@pytest.fixture
def daemon(launch, tmp_path):
    path = tmp_path / "control"
    (tmp_path / "sockd.toml").write_text(f'''
        [daemon]
        control = "{path}"
        user = "{"root" if os.geteuid() == 0 else os.getlogin()}"
        [[listen]]
        address = "tcp://127.0.0.1:0"
        service = "upper"
    ''')
    launch("--foreground", "--log-format", "json", "-c", "sockd.toml").ready()
    return path


def test_either_place(daemon):
    for words in (("--control", daemon, "status"), ("status", "--control", daemon), (f"--control={daemon}", "status")):
        done = sockctl(*words)
        assert (done.returncode, done.stdout[:6]) == (0, "sockd "), done.stderr


def test_the_one_behind_the_verb_counts(daemon):
    assert sockctl("--control", "/nowhere", "status", "--control", daemon).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--control", "/x", "connect", "tcp://127.0.0.1:7"),
        ("connect", "--control", "/x", "tcp://127.0.0.1:7"),
        ("connect", "tcp://127.0.0.1:7", "--control=/x"),
        ("connect", "--tls", "--control", "/x"),
        ("import", "--control", "/x", "inetd.conf"),
    ],
)
def test_of_no_use_to_a_client(words):
    """Seen to fail behind the verb: "not an address: '/x'"."""
    done = sockctl(*words)
    assert done.returncode == 64
    verb = "import" if "import" in words else "connect"
    assert f"sockctl: --control: {verb} does not use the control socket; remove it" in done.stderr


def test_a_verb_that_uses_it_may_be_about_another_one(tmp_path):
    """`connect` is the name of a service here."""
    done = sockctl("limit", "--control", tmp_path / "none", "connect", "5")
    assert "is it running" in done.stderr


def test_who_may_is_said(monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(PermissionFault) as refused:
        ask("/run/sockd/control.sock", ControlRequest("status"))
    assert "root and the user that started the daemon may use it" in str(refused.value)
    assert "is it running" not in str(refused.value)
