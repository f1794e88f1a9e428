# SPDX-License-Identifier: MIT
"""What supervisors and loggers want: readiness by a descriptor, the name in syslog, an end of previous processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import closing, suppress

import pytest
from controlling import Sockctl
from serving import STAY_ROOT
from watching import _until

PASS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "front"}
os.execv(sys.argv[2], sys.argv[2:])
"""
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n'


@pytest.mark.parametrize("workers", [1, 2])
def test_a_newline_says_that_it_serves(tmp_path, sockd_script, workers):
    """As s6 and dinit have it; a program that sockd starts, and an upgrade, know nothing of the descriptor."""
    sockctl = Sockctl(tmp_path)
    text = f'[daemon]\nworkers = {workers}\ncontrol = "{sockctl.path}"\n{LISTEN.format("upper")}'
    (tmp_path / "sockd.toml").write_text(text)
    reader, writer = os.pipe()
    command = [sockd_script, *STAY_ROOT, "-f", "-c", "sockd.toml", "--notify-fd", str(writer)]
    with subprocess.Popen(command, cwd=tmp_path, pass_fds=[writer], stderr=subprocess.PIPE) as process:
        os.close(writer)
        with open(reader, "rb") as ready:
            assert ready.read() == b"\n"  # and its end: nobody has it any more
        assert sockctl.ask("status")["state"] == "serving"
        sockctl.ask("upgrade")
        sockctl.ask("stop")
        process.communicate(timeout=30)


def test_a_descriptor_that_is_not_open_is_named(tmp_path, sockd_script):
    (tmp_path / "sockd.toml").write_text(LISTEN.format("upper"))
    for words, error in ((["-f"], "--notify-fd 77: no such descriptor is open; for s6, "), ([], "wants --foreground")):
        command = [sockd_script, *STAY_ROOT, *words, "-c", "sockd.toml", "--notify-fd", "77"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert (done.returncode, error in done.stderr) == (64, True), done.stderr


def test_a_socket_that_was_passed_is_not_the_descriptor_for_readiness(managed, bound):
    words = ["--foreground", "--notify-fd", "3", "--listen", "fd:web=upper"]
    said = managed(words=words, sockets=[("web", bound("tcp"))]).end(64)
    assert "--notify-fd 3: is a socket that was passed (LISTEN_FDS); give another number" in said


def test_the_name_in_the_messages(tmp_path, sockd_script):
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(30)
        to = f"udp://127.0.0.1:{collector.getsockname()[1]}"
        log = f'log = {{ to = "{to}", ident = "front", facility = "local3" }}\n'
        (tmp_path / "sockd.toml").write_text(f"[daemon]\n{log}{LISTEN.format('upper')}")
        command = [sockd_script, *STAY_ROOT, "-f", "-c", "sockd.toml"]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            message = collector.recv(9000)
            process.terminate()
        assert re.match(rb"<15[0-9]>1 \S+ \S+ front [0-9]+ sockd", message), message  # 19 << 3 and a severity
    (tmp_path / "sockd.toml").write_text(f"[daemon]\n{log.replace('front', 'a b')}{LISTEN.format('upper')}")
    done = subprocess.run([*command, "--check"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert 'sockd.toml:2: daemon.log.ident: "a b" is no name for syslog' in done.stderr


def test_a_previous_process_ends_in_time(serve, target, tmp_path):
    """A relayed connection cannot move; the process that has it is named, and ends."""
    behind, sockctl = target(), Sockctl(tmp_path)
    text = (
        f'[daemon]\ncontrol = "{sockctl.path}"\nprevious_timeout = "1s"\nstop_timeout = "1s"\n{LISTEN.format("back")}'
    )
    server = serve(config=text + f'[service.back]\nrelay = {{ to = ["{behind.address}"] }}\n')
    with closing(server.connect()) as client, closing(behind.take()) as reached:
        client.send(b"x")
        assert reached.recv(10) == b"x"
        assert sockctl.ask("upgrade")["stay"] == 1
        assert sockctl.ask("status")["previous_processes"] == 1
        said = server.wait_for("previous process has served for previous_timeout, stopping")
        assert said["connections"] == 1
        with suppress(ConnectionResetError):
            assert client.to_end() == b""
    _until(lambda: sockctl.ask("status")["previous_processes"] == 0)
    sockctl.run("stop", "--wait")


def test_sockets_that_are_passed_outlive_restarts_of_reload(tmp_path, sockd_script):
    """`--reload` under socket activation: the watcher keeps the socket, and clients wait while the program restarts."""
    (tmp_path / "app.py").write_text("def reply(line):\n    return b'one'\n")
    (tmp_path / "sockd.toml").write_text('[[listen]]\naddress = "fd:front"\nservice = "app:reply"\n')
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        number = listening.fileno()
        command = [
            sys.executable,
            "-S",
            "-c",
            PASS,
            str(number),
            sockd_script,
            *STAY_ROOT,
            "-f",
            "-c",
            "sockd.toml",
            "--reload",
        ]
        with subprocess.Popen(command, cwd=tmp_path, pass_fds=[number], stderr=subprocess.DEVNULL) as process:

            def answer():
                with socket.create_connection(listening.getsockname(), timeout=30) as sock:
                    sock.sendall(b"x\n")
                    return sock.recv(10)

            try:
                assert answer() == b"one\n"
                (tmp_path / "app.py").write_text("def reply(line):\n    return b'another'\n")
                _until(lambda: answer() == b"another\n")
            finally:
                process.terminate()
