# SPDX-License-Identifier: MIT
"""What a program is started as: its name, directory, umask, priority, groups and login variables.

Each is observed by the program itself, as the system tells it.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import socket
import subprocess

import pytest

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
SHOW = r"""
cat </proc/$$/cmdline; echo
echo "nice $(nice)"; echo "umask $(umask)"; echo "directory $(pwd)"; echo "groups $(id -G)"; env | sort
"""


@pytest.fixture
def shown(daemon):
    """What a program prints of itself, line by line, started with some keys of its service."""

    def show(keys, *, user="root", command=("/bin/sh", "-c", SHOW)):
        own = f'user = "{user}"' if os.geteuid() == 0 else ""
        stays = '[daemon]\nuser = "root"' if os.geteuid() == 0 else ""
        one = daemon(
            toml=f"""
            {stays}
            [[listen]]
            address = "tcp://127.0.0.1:0"
            service = "show"
            [service.show]
            exec = {json.dumps(list(command))}
            {own}
            {keys}
            """
        )
        with one.connect() as peer:
            peer.settimeout(20)
            return b"".join(iter(lambda: peer.recv(65536), b"")).decode().splitlines()

    return show


def test_a_program_has_the_name_directory_umask_and_priority_of_its_service(shown, tmp_path):
    tmp_path.chmod(0o755)
    lines = shown(f'argv0 = "in.showd"\ndirectory = "{tmp_path}"\numask = "077"\nnice = 7')
    assert lines[0].split("\0")[0] == "in.showd"
    assert {"nice 7", "umask 0077", f"directory {tmp_path}"} <= {*lines}


def test_without_these_keys_they_are_as_documented(shown):
    lines = shown("")
    assert lines[0].split("\0")[0] == "/bin/sh"
    assert {f"nice {os.getpriority(os.PRIO_PROCESS, 0)}", "umask 0022", "directory /"} <= {*lines}


@AS_ROOT
@pytest.mark.parametrize(("keys", "expected"), [("groups = []", []), ('groups = ["daemon", "2"]', ["daemon", "2"])])
def test_supplementary_groups_are_those_that_are_written(shown, keys, expected):
    lines = shown(keys, user="nobody")
    numbers = {grp.getgrnam(one).gr_gid if one.isalpha() else int(one) for one in expected}
    found = next(line for line in lines if line.startswith("groups "))
    assert {int(word) for word in found.split()[1:]} == numbers | {pwd.getpwnam("nobody").pw_gid}


@AS_ROOT
def test_a_negative_priority_is_set_before_root_is_given_up(shown):
    lines = shown("nice = -3", user="nobody")
    assert "nice -3" in lines


@AS_ROOT
def test_a_program_knows_its_user_unless_its_service_says_otherwise(shown):
    nobody = pwd.getpwnam("nobody")
    lines = shown('environment = ["PATH", "HOME=/srv"]', user="nobody")
    assert {"HOME=/srv", "USER=nobody", "LOGNAME=nobody", f"SHELL={nobody.pw_shell}"} <= {*lines}
    assert f"HOME={nobody.pw_dir}" not in lines


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('umask = "9"', 'service.show.umask: "9" is not a umask in octal; write one such as "022" or "077"'),
        ('directory = "etc"', 'service.show.directory: "etc" is not an absolute path'),
        ('directory = "/nowhere/at all"', '"/nowhere/at all" does not exist; create it, or name another'),
        ('argv0 = ""', 'service.show.argv0: "" is empty or contains a NUL character'),
        ("nice = 20", "service.show.nice: 20 is too large; allowed: -20 to 19"),
        ("groups = []", "service.show.groups: requires a user"),
        ('user = "nobody"\ngroups = ["no such group"]', 'groups: "no such group" is not a group of this host'),
    ],
)
def test_what_is_wrong_is_found_by_check(run_check, keys, message):
    assert message in run_check(keys)


@pytest.fixture
def run_check(tmp_path, capfd):
    """What `sockd --check` says of a service with some keys."""
    from sockd.cli.sockd import main

    def check(keys):
        user = "root" if "user" in keys else "nobody"
        path = tmp_path / "sockd.toml"
        path.write_text(
            f"""
            [daemon]
            user = "{user}"
            [[listen]]
            address = "tcp://127.0.0.1:0"
            service = "show"
            [service.show]
            exec = ["/bin/true"]
            {keys}
            """
        )
        assert main(["--check", "--config", str(path)]) != 0
        return capfd.readouterr().err

    return check


ENTRIES = ["127.0.0.0/8 ZONE=inner", "127.0.0.0/8 RELAY=", "127.0.0.2", "127.0.0.3 ZONE=one client's", "::1 ZONE=six"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("127.0.0.1", {"ZONE=inner", "RELAY="}),
        ("127.0.0.2", set()),
        ("127.0.0.3", {"ZONE=one client's"}),
        ("::1", {"ZONE=six"}),
    ],
)
def test_variables_depend_on_the_network_of_the_client(daemon, source, expected):
    """The smallest network with entries decides; on a socket for both families, a client of IPv4 is one."""
    own = 'user = "root"' if os.geteuid() == 0 else ""
    host = "[::1]" if ":" in source else "[::]"
    one = daemon(
        toml=f"""
        [daemon]
        {own}
        [[listen]]
        address = "tcp://{host}:0"
        service = "show"
        [service.show]
        exec = ["/usr/bin/env"]
        client_environment = {json.dumps(ENTRIES)}
        {own}
        """
    )
    peer = socket.create_connection((source if ":" in source else "127.0.0.1", one.port()), 20, (source, 0))
    with peer:
        lines = b"".join(iter(lambda: peer.recv(65536), b"")).decode().splitlines()
    assert {line for line in lines if line.startswith(("ZONE=", "RELAY="))} == expected


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('client_environment = ["10.0.0.0/8 =x"]', 'write "10.0.0.0/8 NAME=value"'),
        ('client_environment = ["10.0.0.1/8 A=x"]', "has bits set after its prefix"),
        ('client_environment = ["10.0.0.0/8 PROTO=x"]', "is set by sockd for each connection"),
        ('client_environment = ["10.0.0.0/8 A=x", "10.0.0.0/8 A=y"]', "sets A a second time for 10.0.0.0/8"),
        ('client_environment = ["10.0.0.0/8 A=x"]\nenvironment = ["A=y"]', "which environment sets for all"),
        ('client_environment = ["10.0.0.0/8 A=x"]\nwait = true', "does not apply with wait = true"),
    ],
)
def test_wrong_variables_of_clients_are_named(tmp_path, sockd_script, keys, words):
    (tmp_path / "sockd.toml").write_text(
        '[daemon]\nuser = "root"\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "x"\n'
        f'[service.x]\nexec = ["/bin/cat"]\nuser = "root"\n{keys}\n'
    )
    done = subprocess.run(
        [sockd_script, "--check", "-c", "sockd.toml"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, words in done.stderr) == (78, True), done.stderr
