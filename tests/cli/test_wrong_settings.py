# SPDX-License-Identifier: MIT
"""Settings that are wrong by what they name: a start, --check, a reload, an upgrade and `sockctl plan` say the same.

Each names file and line, the key path, the value and the remedy.  Seen failing: a reload and an upgrade named no
file, and handlers, hooks and files of a service had no line anywhere.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from controlling import Sockctl
from watching import _script

LIMIT_S = 60
AS_ROOT = os.geteuid() == 0
OWN = f'user = "{"root" if AS_ROOT else os.geteuid()}"\n'
APP = """
import sockd
def f(line): return line
async def session(reader, writer): pass
hook = sockd.Service()
@hook.frame
def g(line): return line
@hook.startup
def open_database(): raise OSError("no database")
"""
LISTEN = '[[listen]]\naddress = "unix:{d}/s"\nservice = "x"\n'
SERVICE = LISTEN + "[service.x]\n"
DATAGRAMS = '[[listen]]\naddresses = ["unix:{d}/s",\n  "unixgram:{d}/g"]\nservice = "app:session"\n'
CASES = {
    "handler": (SERVICE + 'handler = "app:ff"', "8: service.x.handler: app:ff: ", "did you mean 'f'?"),
    "handler of a listener": (LISTEN.replace('"x"', '"ap:f"'), "6: listen[0].service: ap:f: ", 'did you mean "app"?'),
    "exec": (SERVICE + 'user = "root"\nexec = ["/none/x"]', '9: service.x.exec: "/none/x": ', "No such file"),
    "user of a program": (SERVICE + 'exec = ["/bin/cat"]\nuser = "rooot"', '9: service.x.user: "rooot" ', '"root"?'),
    "stderr": (SERVICE + f'exec = ["/bin/cat"]\n{OWN}stderr = "/none/x"', "10: service.x.stderr: /none/x: ", "create"),
    "owner": (LISTEN.replace('"x"', '"echo"') + 'owner = "rooot"', '7: listen[0].owner: "rooot" ', '"root"?'),
    "greeting": (
        LISTEN.replace('"x"', '"echo"') + 'greeting_files = [\n "/none/x"]',
        '8: listen[0].greeting_files[0]: "/none/x": ',
        "No such file",
    ),
    "certificate": (
        '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "echo"\ntls.certificate = "none.pem"',
        "7: listen[0].tls.certificate: {d}/none.pem: ",
        "No such file",
    ),
    "users": (SERVICE + 'socks.users = "/none/x"', "8: service.x.socks.users: /none/x: ", "No such file"),
    "datagrams": (DATAGRAMS, "6: listen[0].addresses[1]: unixgram:{d}/g: ", "can"),
    "goodbye": (SERVICE + 'handler = "app:f"\nframing = "netstring"\nmax_frame = 1\ngoodbye = "hi"', "11: ", ""),
    "hook": (SERVICE + 'handler = "app:hook"', "7: service.x: startup hook failed at {d}/app.py:9: ", "no database"),
}  # fmt: skip
AT_A_START = ("stderr", "users", "hook")
"""What --check does not do: open files for writing and of secrets, and call handlers."""


def config(directory, text, control="control.sock"):
    body = text.replace("{d}", str(directory))
    return f'[daemon]\n{OWN}control = "{directory}/{control}"\n{body}\n'


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    directory = tmp_path_factory.mktemp("live")
    (directory / "app.py").write_text(APP)
    (directory / "sockd.toml").write_text(config(directory, LISTEN.replace('"x"', '"echo"').replace("/s", "/first")))
    words = [_script("sockd"), "--foreground", "-c", "sockd.toml"]
    with subprocess.Popen(words, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as one:
        while "Ctrl-C" not in one.stdout.readline():
            assert one.poll() is None
        yield Sockctl(directory)
        one.terminate()


@pytest.mark.parametrize("name", CASES)
def test_each_way_says_the_same(live, name):
    directory = live.directory
    text, place, remedy = CASES[name]
    begins = f"sockd.toml:{place}".replace("{d}", str(directory))
    (directory / "sockd.toml").write_text(config(directory, text))
    (directory / "trial.toml").write_text(config(directory, text, "trial.sock"))
    how = "--foreground" if name in AT_A_START else "--check"
    words = [_script("sockd"), how, "-c", "trial.toml"]
    started = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=LIMIT_S)
    said = [started.stderr.splitlines()[-1].replace("sockd: trial", "sockd"), live.run("reload").stderr.strip()]
    if name in ("handler", "user of a program"):
        said += [live.run("plan", "sockd.toml").stderr.strip(), live.run("upgrade").stderr.strip()]
    lines = {one.removeprefix("sockctl: ") for one in said}
    assert len(lines) == 1, said
    (line,) = lines
    assert line.startswith(begins), (line, begins)
    assert remedy in line


def test_the_command_line_is_a_place_too(tmp_path):
    """Seen failing: `daemon.user` where --user is wrong, and no option at all where its handler is."""
    (tmp_path / "app.py").write_text(APP)
    for words, begins in (
        (("--user", "rooot"), '--user: "rooot" is not a user'),
        (("--listen", "tcp://127.0.0.1:0=app:ff"), '--listen "tcp://127.0.0.1:0=app:ff": app:ff: '),
    ):
        command = [_script("sockd"), "--check", "--listen", "tcp://127.0.0.1:0=upper", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S)
        assert done.returncode == 78
        assert done.stderr.startswith(f"sockd: {begins}"), done.stderr


def test_an_included_file_is_named(tmp_path):
    """By its own line, and by the number of the listener within it."""
    (tmp_path / "more.toml").write_text("\n" + LISTEN.replace("{d}", str(tmp_path)).replace('"x"', '"nosuch:f"'))
    text = 'include = ["more.toml"]\n' + config(tmp_path, LISTEN.replace('"x"', '"echo"').replace("/s", "/first"))
    (tmp_path / "sockd.toml").write_text(text)
    words = [_script("sockd"), "--check", "-c", "sockd.toml"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stderr.startswith(f"sockd: {tmp_path}/more.toml:4: listen[0].service: nosuch:f: no module"), done.stderr
