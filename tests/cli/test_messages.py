# SPDX-License-Identifier: MIT
"""Messages that name the cause and the cure, at --check where it can be known.

Seen to fail: `--check` found no error, or the message named something else than the cause; see FAQ IV.1 for addresses.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time

import pytest
from serving import STAY_ROOT

from sockd.config import load
from sockd.errors import ConfigurationError


@pytest.fixture
def sockd(tmp_path, sockd_script):
    """Run sockd with a configuration: (exit code, standard error)."""

    def run(toml, *words, **more):
        (tmp_path / "sockd.toml").write_text(toml)
        command = [sockd_script, *words, "-c", "sockd.toml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, **more)
        return done.returncode, done.stderr

    return run


def listen(*addresses, more="", service="upper"):
    return "".join(f'[[listen]]\naddress = "{one}"\nservice = "{service}"\n{more}' for one in addresses)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- addresses

CONFLICTS = {
    (
        "tcp://0.0.0.0:{}",
        "tcp://[::]:{}",
    ): "tcp://[::]:{} also accepts IPv4 clients, as tcp://0.0.0.0:{} does; "
    "write ipv6_only = true for tcp://[::]:{}, or remove one of the two",
    ("tcp://:{}", "tcp://127.0.0.1:{}"): "tcp://:{} also accepts IPv4 clients, as tcp://127.0.0.1:{} does",
    ("udp://127.0.0.1:{}", "udp://0.0.0.0:{}"): "udp://0.0.0.0:{} includes every address, also udp://127.0.0.1:{}",
    ("tcp://[::1]:{}", "tcp://[::]:{}"): "tcp://[::]:{} includes every address, also tcp://[::1]:{}",
}


@pytest.mark.parametrize("pair", CONFLICTS)
def test_addresses_that_exclude_each_other(sockd, pair):
    port = free_port()
    toml = listen(*(one.format(port) for one in pair))
    code, words = sockd(toml, "--check")
    assert code == 78
    assert CONFLICTS[pair].replace("{}", str(port)) in words
    code, words = sockd(toml, "-f", *STAY_ROOT)
    assert code == 71
    assert "this process" in words
    assert "ipv6_only = true" in words


@pytest.mark.parametrize(
    ("toml", "code"),
    [
        (listen("tcp://0.0.0.0:{0}") + listen("tcp://[::]:{0}", more="ipv6_only = true\n"), 0),
        (listen("tcp://0.0.0.0:{0}", "udp://0.0.0.0:{0}", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0"), 0),
        (listen("tcp://127.0.0.1:{0}", "tcp://127.0.0.2:{0}", "tcp://[::1]:{0}"), 0),
        (listen("tcp://127.0.0.1:{0}", "tcp://0.0.0.0:{0}", more="reuse_port = true\n"), 0),
    ],
)
def test_addresses_that_can_stand_beside_each_other(sockd, toml, code):
    toml = toml.format(free_port())
    assert sockd(toml, "--check")[0] == code


def test_an_ipv4_address_in_ipv6_clothes(sockd):
    code, words = sockd(listen("tcp://[::ffff:127.0.0.1]:7000"), "--check")
    assert code == 78
    assert "is an IPv4-mapped address" in words
    assert "write tcp://127.0.0.1:7000" in words


def test_an_abstract_name_has_no_mode(sockd):
    code, words = sockd(listen("unix:@x") + 'mode = "0600"\n', "--check")
    assert code == 78
    assert "is for the path of a Unix socket, and this listener has none" in words


@pytest.mark.parametrize("to", ["/dev/stdout", "/dev/stderr", "/proc/self/fd/2"])
def test_a_log_to_standard_output(sockd, to):
    code, words = sockd(f'[daemon]\nlog = {{ to = "{to}" }}\n' + listen("tcp://127.0.0.1:0"), "--check")
    assert code == 78
    assert 'write "stderr", and use --foreground' in words


# ---- programs

SCRIPTS = {
    b"#!/bin/sh\r\necho hello\r\n": "has lines that end with CR LF",
    b"echo hello\n": "has no first line that names its interpreter, such as #!/bin/sh",
    b"#!/usr/bin/nosuch -x\necho\n": '"/usr/bin/nosuch" in its first line, and there is no such program',
    b"#! sh\necho\n": '"sh" in its first line; that is not an absolute path',
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_cannot_be_executed(sockd, tmp_path, script):
    path = tmp_path / "script"
    path.write_bytes(script)
    path.chmod(0o755)
    user = 'user = "root"\n' if os.geteuid() == 0 else ""
    service = f'[service.s]\nexec = ["{path}"]\n{user}'
    code, words = sockd(listen("tcp://127.0.0.1:0", service="s") + service, *STAY_ROOT, "--check")
    assert code == 78
    assert SCRIPTS[script] in words


@pytest.mark.parametrize("script", [b"#!/bin/sh\necho\n", b"#!  /bin/sh -e\necho\n", b"", b"\x7fELF\1\2\0\0"])
def test_what_may_be_executed_is_left_to_the_kernel(sockd, tmp_path, script):
    path = tmp_path / "script"
    path.write_bytes(script)
    path.chmod(0o711)
    user = 'user = "root"\n' if os.geteuid() == 0 else ""
    service = f'[service.s]\nexec = ["{path}"]\n{user}'
    assert sockd(listen("tcp://127.0.0.1:0", service="s") + service, *STAY_ROOT, "--check")[0] == 0


# ---- modules


def test_a_module_that_who_serves_may_not_read(sockd, tmp_path, open_path, as_root):
    app = tmp_path / "app.py"
    app.write_text("def answer(line):\n    return line\n")
    toml = '[daemon]\nuser = "nobody"\n' + listen("tcp://127.0.0.1:0", service="app:answer")
    code, words = sockd(toml, "--check")
    assert (code, "cannot import it" in words) == (0, False)
    app.chmod(0o600)
    code, words = sockd(toml, "--check")
    assert code == 0
    assert f"note: {app}: {app} has mode 600 and belongs to uid 0; the daemon serves as nobody" in words
    assert stat.S_IMODE(app.stat().st_mode) == 0o600


def test_a_directory_that_who_serves_may_not_read_is_named_at_a_reload(daemon, open_path, tmp_path, as_root):
    app = "def answer(line):\n    return line\n"
    toml = listen("tcp://127.0.0.1:0", service="app:answer")
    one = daemon(toml=toml, app=app, arguments=["--user", "nobody"])
    one.directory.chmod(0o711)
    one.process.send_signal(1)
    told = one.wait_for("invalid configuration, keeping the previous one")
    assert f"no module 'app' can be read: {one.directory.resolve()} is closed to uid" in told["error"]


# ---- how much is read

LONG = {
    "parts of a key": ".".join(["a"] * 50_000) + " = 1\n",
    "parts of a header": "[" + ".".join(["a"] * 50_000) + "]\n",
    "parts within a table": "x = {" + ".".join(["a"] * 50_000) + " = 1}\n",
    "quoted parts": "x = {" + ".".join(['"a b"'] * 50_000) + " = 1}\n",
    "mistakes": "".join(f"[service.s{number}]\nhandle = 'a:b'\n" for number in range(50_000)),
    "mistakes of one list": "[[listen]]\nallow = [" + '"x",\n' * 50_000 + "]\n",
    "unknown keys": "".join(f"lisen{number} = 1\n" for number in range(50_000)),
}


@pytest.mark.parametrize("what", LONG)
def test_a_configuration_is_refused_in_bounded_time(what):
    """fails with a square of their number: over 100 s for 50,000 parts"""
    began = time.process_time()
    with pytest.raises(ConfigurationError) as caught:
        load.loads(LONG[what], name="x")
    assert time.process_time() - began < 10
    assert len(str(caught.value).splitlines()) <= 101


def test_a_key_of_many_parts_is_named_by_its_line():
    with pytest.raises(ConfigurationError, match=r"x:3: a key has more than 32 parts"):
        load.loads("[daemon]\n\n" + ".".join(["a"] * 40) + " = 1\n", name="x")
    text = '[[listen]]\naddress = "tcp://127.0.0.1:7"\nservice = "upper"\nbanner = "' + ".".join(["a"] * 40) + '"\n'
    assert load.loads(text + 'at_limit = "refuse"\n', name="x").listen[0].banner
