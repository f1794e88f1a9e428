# SPDX-License-Identifier: MIT
"""II.20: chroot() - an empty directory for the whole file system, and everything goes on.

Seen to fail: with no codec loaded before, with the spare descriptor opened by the path of /dev/null, with
the configuration read by its path.
"""

from __future__ import annotations

import os
import select
import signal

import pytest

APP = """
import os, time
def answer(line):
    verb, _, rest = line.partition(b" ")
    match verb:
        case b"root":
            return b" ".join(os.fsencode(name) for name in os.listdir("/")) or b"(empty)"
        case b"codec":
            return "\\u00fc".encode(rest.decode())
        case b"idna":
            return "b\\u00fccher".encode("idna")
        case b"zone":
            return time.strftime("%Z", time.localtime(0)).encode()
        case b"thread":
            import threading
            thread = threading.Thread(target=lambda: None)
            thread.start(), thread.join()
            return b"ended"
    raise ValueError(rest)
"""


@pytest.fixture
def jailed(background, open_path, as_root):
    """A daemon in an empty directory, which belongs to root."""
    empty = open_path / "empty"
    empty.mkdir(mode=0o755)

    def start(**more):
        return background(
            daemon=f'user = "nobody"\nchroot = "{empty}"', app=APP, service="app:answer",
            environment={"TZ": "", "PYTHONUTF8": "1"} | more.pop("environment", {}), **more,
        )  # fmt: skip

    return start


def test_it_serves_in_an_empty_root(jailed, tmp_path):
    one = jailed(listen="tcp://localhost:0")
    assert one.code == 0, one.words
    assert os.readlink(f"/proc/{one.pid}/root") == f"{tmp_path}/empty"
    assert os.readlink(f"/proc/{one.pid}/cwd") == f"{tmp_path}/empty"
    assert one.ask(b"root") == b"(empty)\n"


def test_what_is_imported_late_is_there(jailed):
    one = jailed()
    for codec in ("latin-1", "cp1252", "utf-16-le", "iso8859-15", "utf-7"):
        assert one.ask(b"codec " + codec.encode()) == "ü".encode(codec) + b"\n"
    assert one.ask(b"idna") == b"xn--bcher-kva\n"
    assert one.ask(b"thread") == b"ended\n"


def test_the_time_zone_is_the_hosts(jailed):
    one = jailed(environment={"TZ": "Europe/Berlin"})
    assert one.ask(b"zone") == b"CET\n"


def test_a_handler_that_fails_is_in_the_log(jailed):
    one = jailed()
    assert one.ask(b"fail") == b""
    assert "ValueError" in one.wait_for("handler failed")["traceback"]


def test_hup_still_finds_log_and_configuration(jailed):
    one = jailed()
    file = one.log.with_name("sockd.toml")
    file.write_text(file.read_text() + '[[listen]]\naddress = "tcp://127.0.0.1:finger"\nservice = "upper"\n')
    one.send(signal.SIGHUP)
    one.wait_for("invalid configuration, keeping the previous one")  # port 79, without the rights to it
    file.write_text(file.read_text().replace("tcp://127.0.0.1:0", "tcp://bücher:0").replace("service =", "servise ="))
    old = one.log.with_suffix(".1")
    one.log.rename(old)
    one.log.touch()
    os.chown(one.log, 65534, 65534)
    one.send(signal.SIGHUP)
    one.wait_for("log reopened")
    assert "sockd.toml" in one.wait_for("invalid configuration, keeping the previous one")["error"]
    one.stop()
    assert one.lines[-1]["message"] == "stopped"


def test_out_of_descriptors_it_still_sheds(jailed):
    """The spare descriptor needs no path (FAQ II.10)."""
    one = jailed(prefix=("sh", "-c", 'ulimit -n 40; exec "$@"', "sh"))
    held = [one.connect() for _ in range(60)]
    one.wait_for("accept paused, one connection shed")
    ready = select.select(held, [], [], 10)[0]
    assert ready, "none of them was told that it is not served"
    assert ready[0].recv(1) == b""
    for sock in held:
        sock.close()
    assert one.ask(b"root") == b"(empty)\n"


def test_in_the_foreground_too(serve, tmp_path, as_root, open_path):
    (tmp_path / "empty").mkdir()
    server = serve("tcp://127.0.0.1:0=app:upper", options=["-u", "nobody", "--chroot", f"{tmp_path}/empty"])
    assert server.connect().ask(b"a") == b"A"
    server.stop()
