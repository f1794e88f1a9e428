# SPDX-License-Identifier: MIT
"""The command line of sockd: what it prints and how it exits (sysexits(3)).

Seen to fail: with EX_NOPERM another number; with plan() left out of --check, so that a
handler that cannot be imported passes.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import sys
import tomllib

import pytest

from sockd.cli import sockd

ROOT = os.geteuid() == 0
GOOD = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:upper"\n'
CAP_NET_BIND_SERVICE, PR_CAPBSET_DROP = 10, 24  # capabilities(7), prctl(2)


@pytest.fixture
def run(launch):
    """Run `sockd WORDS` to its end; returns (exit code, output, errors)."""

    def command(*words, **options):
        server = launch(*words, **options)
        return server.wait(), "\n".join(server.output), "\n".join(server.words)

    return command


def test_version(run):
    code, output, _ = run("-V")
    assert code == 0
    assert re.fullmatch(r"sockd \d+\.\d+\.\d+.*", output)
    assert run("--version")[1] == output


def test_help_names_every_option(run):
    code, output, _ = run("--help")
    assert code == 0
    for option in ("--config", "--foreground", "--listen", "--check", "--print", "--multiplexer", "--reload"):
        assert option in output
    for option in ("--user", "--group", "--chroot", "--pidfile"):
        assert option in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reload"], "use it with --foreground"),
        (["-f", "-l", "tcp://127.0.0.1:0=upper", "--chroot", "empty"], '--chroot "empty" is not an absolute path'),
        (["-f", "-l", "tcp://127.0.0.1:0=upper", "--pidfile", "pid"], '--pidfile "pid" is not an absolute path'),
        (["-f", "-l", "tcp://127.0.0.1:0=upper", "--user", ""], '--user "" is not a valid user'),
        (["--no-such-option"], "--no-such-option: no such option: sockd --help"),
        (["-f", "word"], "word: sockd has no verbs"),
        (["--fore"], "--fore"),
        (["-c"], "expected one argument"),
        (["-f", "-l", "tcp://127.0.0.1:70000=upper"], "70000"),
        (["-f", "-l", "nonsense"], "nonsense"),
        (["-f", "-l", "tcp://127.0.0.1:0=upper", "--multiplexer", "pol"], "poll"),
    ],
)
def test_a_wrong_command_line_exits_64(run, words, said):
    code, output, errors = run(*words)
    assert (code, output) == (64, "")
    assert said in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-f", "-l", "tcp://127.0.0.1:0=app:uper"], "did you mean 'upper'"),
        (["-f", "-l", "tcp://127.0.0.1:0=nowhere:f"], "no module 'nowhere'"),
        (["-f", "-l", "tcp://127.0.0.1:0=bad:f"], "bad.py:2: ZeroDivisionError"),
        (["-f", "-l", "tcp://127.0.0.1:0=wrong:f"], "wrong.py:1: SyntaxError"),
        (["-f", "-l", "udp://127.0.0.1:0=app:Upper"], "cannot answer datagrams"),
        (["-f", "-c", "nothing.toml"], "nothing.toml"),
        (["-f", "-c", "/no/where/nothing.toml"], "/no/where/nothing.toml"),
        (
            [],
            "/etc/sockd/sockd.toml does not exist (as root"
            if ROOT
            else "neither sockd.toml nor /etc/sockd/sockd.toml exists",
        ),
        (["-t", "-l", "tcp://127.0.0.1:0=upper", "-u", "nobdy"], '--user: "nobdy" is not a user of this host'),
        (["-t", "-c", "broken.toml"], "broken.toml:1"),
        (["-t", "-l", "tcp://127.0.0.1:0=app:uper"], "did you mean 'upper'"),
        (["-T", "-l", "tcp://127.0.0.1:0=app:uper"], "did you mean 'upper'"),
    ],
)
def test_a_wrong_configuration_exits_78(run, tmp_path, words, said):
    (tmp_path / "bad.py").write_text("x = 1\n1 / 0\n")
    (tmp_path / "wrong.py").write_text("def f(\n")
    (tmp_path / "broken.toml").write_text("[daemon\n")
    code, output, errors = run(*words)
    assert (code, output) == (78, "")
    assert said in errors
    assert "Traceback" not in errors
    assert all(line.startswith("sockd: ") for line in errors.splitlines())


def no_low_ports():
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0)


def test_a_port_that_needs_rights_exits_77(run):
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        if int(file.read()) <= 1:
            pytest.skip("every port is free for everybody here (ip_unprivileged_port_start)")
    code, output, errors = run("-f", "-l", "tcp://127.0.0.1:1=upper", preexec_fn=no_low_ports)
    assert (code, output) == (77, "")
    assert "tcp://127.0.0.1:1" in errors
    assert "EACCES" in errors
    assert "CAP_NET_BIND_SERVICE" in errors


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://192.0.2.1:7000", "EADDRNOTAVAIL"),
        ("unix:/nowhere/at/all", "ENOENT"),
        ("tcp://no-such-host.invalid:7000", "no-such-host.invalid"),
    ],
)
def test_what_the_system_refuses_exits_71(run, address, said):
    code, output, errors = run("-f", "-l", f"{address}=upper")
    no_answer = "invalid" in address and "failure in name resolution" in errors  # without a name server: EAI_AGAIN
    assert (code, output) == (75 if no_answer else 71, "")
    assert said in errors


def test_what_may_go_another_time_exits_75(run, tmp_path):
    """The path is locked by another process of ours."""
    fd = os.open(tmp_path / ".s.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        code, _, errors = run("-f", "-l", f"unix:{tmp_path}/s=upper")
    finally:
        os.close(fd)
    assert code == 75
    assert "locked by another process" in errors


@pytest.mark.parametrize("option", ["-t", "--check"])
def test_check_binds_nothing(serve, run, tmp_path, option):
    server = serve("tcp://127.0.0.1:0=upper")
    code, output, errors = run(option, "-l", f"{server.addresses[0]}=app:upper", "-l", f"unix:{tmp_path}/s=upper")
    assert (code, output) == (0, "")
    assert "configuration OK: 2 listeners" in errors
    assert not os.path.lexists(tmp_path / "s")


def test_the_print_loads_back_and_prints_the_same(run, tmp_path):
    (tmp_path / "one.toml").write_text(
        GOOD + '[daemon]\nstop_timeout = "3s"\n[service.slow]\nbuiltin = "echo"\nidle_timeout = "1m30s"\n'
    )
    code, first, errors = run("-T", "-c", "one.toml")
    assert (code, errors) == (0, "")
    assert tomllib.loads(first)["daemon"]["stop_timeout"] == "3s"
    (tmp_path / "two.toml").write_text(first + "\n")
    assert run("-T", "-c", "two.toml") == (0, first, "")
    assert run("-t", "-c", "two.toml")[0] == 0


def test_the_print_shows_what_the_command_line_changes(run):
    code, output, _ = run("-T", "-l", "tcp://127.0.0.1:0=upper", "--multiplexer", "poll", "--log-level", "debug")
    found = tomllib.loads(output)
    assert code == 0
    assert found["daemon"]["multiplexer"] == "poll"
    assert found["daemon"]["log"]["level"] == "debug"
    assert found["listen"][0]["service"] == "upper"


def test_the_file_in_the_directory_is_read(run, tmp_path):
    (tmp_path / "sockd.toml").write_text(GOOD)
    assert "sockd.toml: configuration OK: 1 listener" in run("-t", *(["-c", "sockd.toml"] if ROOT else []))[2]


def test_without_any_configuration_it_is_the_example(run, tmp_path):
    if os.path.lexists("/etc/sockd/sockd.toml"):
        pytest.skip("/etc/sockd/sockd.toml is here")
    code, output, _ = run("-T", environment={"XDG_RUNTIME_DIR": str(tmp_path)})
    (listen,) = tomllib.loads(output)["listen"]
    assert code == 0
    assert listen["service"] == "upper"
    assert listen["addresses"] == [
        "tcp://127.0.0.1:7007",
        "udp://127.0.0.1:7007",
        f"unix:{tmp_path}/sockd-example.sock",
    ]


def test_the_screen_says_what_is_served_and_how_to_talk_to_it(serve, tmp_path):
    server = serve("tcp://127.0.0.1:0=app:upper", f"unix:{tmp_path}/s=echo")
    assert server.output[0].endswith(", configured by the command line, serves:")
    for address, service in zip(server.addresses, ("app:upper", "echo"), strict=True):
        (line,) = [line for line in server.output if address in line]
        assert re.fullmatch(rf"  {service} on {re.escape(address)} +sockctl connect {re.escape(address)}", line)


def test_the_log_is_text_unless_asked_otherwise(launch):
    server = launch("-f", "-l", "tcp://127.0.0.1:0=upper")
    server.wait_until(lambda: any(" info listening address=tcp://127.0.0.1:" in line for line in server.words), "it")
    assert server.events == []
    server.stop()


def test_the_log_level_is_kept_to(serve):
    server = serve("tcp://127.0.0.1:0=app:act", options=["--log-level", "error"], quiet=True)
    address = server.output[1].split()[-1]
    server.connect(address).ask(b"a")
    peer = server.connect(address)
    peer.send(b"boom\n")
    assert peer.to_end() == b""
    server.wait_for("handler failed")
    server.stop()
    assert {e["level"] for e in server.events} == {"error"}


def test_main_returns_its_exit_code(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert sockd.main(["--reload"]) == 64
    assert sockd.main(["-T", "-l", "tcp://127.0.0.1:0=upper"]) == 0
    assert "multiplexer" in capsys.readouterr().out
