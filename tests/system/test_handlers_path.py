# SPDX-License-Identifier: MIT
"""`path` of [daemon]: a start, a check, a reload, a plan, workers and an upgrade import handlers from one directory.

Fails where the key is unknown; with configure() not undone, the reload that fails leaves imports within handlers to the
wrong directory; with the former directory left in sys.path, the module of the same name there is found.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from controlling import SOCKCTL, Sockctl
from serving import STAY_ROOT

ANSWER = """
def answer(line):
    import beside{name}
    return beside{name}.word + b" " + line
"""
CONFIGURATION = """
[daemon]
{path}
control = "{control}"
{more}
[[listen]]
address = "tcp://127.0.0.1:0"
service = "app:answer"
"""


class House(Sockctl):
    def app(self, name):
        """An app.py in a directory of its own, which imports another module when it is called."""
        directory = self.directory / name
        directory.mkdir()
        (directory / "app.py").write_text(ANSWER.format(name=name))
        (directory / f"beside{name}.py").write_text(f"word = b'{name}'\n")
        return directory

    def write(self, path, *, file="sockd.toml", more=""):
        line = "" if path is None else f'path = "{path}"'
        text = CONFIGURATION.format(path=line, control=self.path, more=more)
        (self.directory / file).write_text(text)

    def check(self):
        command = [SOCKCTL.with_name("sockd"), *STAY_ROOT, "--check", "-c", self.directory / "sockd.toml"]
        return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=30)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_every_step_imports_from_there(house, serve):
    house.app("one")
    two = house.app("two")
    house.write("one")  # relative: to the directory of the configuration
    server = serve(options=["-c", "sockd.toml"])
    assert server.connect().ask(b"a") == b"one a"
    house.write(two)
    assert "kept" in house.say("plan", "sockd.toml")
    assert "at the next start" not in house.say("reload")
    assert server.connect().ask(b"b") == b"two b"
    pid = house.ask("upgrade")["pid"]
    assert server.connect().ask(b"c") == b"two c"
    os.kill(pid, signal.SIGTERM)  # with the first one gone, nobody else would end it


def test_a_reload_that_fails_leaves_imports_as_they_were(house, serve):
    house.app("one")
    (house.directory / "wrong").mkdir()
    house.write("one")
    server = serve(options=["-c", "sockd.toml"])
    house.write("wrong")
    done = house.run("reload")
    assert done.returncode == 78
    assert f"no module 'app' in {house.directory}/wrong or among the installed packages" in done.stderr
    assert server.connect().ask(b"a") == b"one a"  # whose import comes only now


def test_workers_import_from_there(house, serve):
    house.app("one")
    house.app("two")
    house.write("one", more="workers = 2")
    server = serve(options=["-c", "sockd.toml"])
    assert server.connect().ask(b"a") == b"one a"
    house.write("two", more="workers = 2")
    house.say("reload")
    assert server.connect().ask(b"b") == b"two b"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (None, "no module 'app' in {directory} or among the installed packages"),
        ("missing", "{directory}/missing"),
    ],
)
def test_it_is_the_only_one(house, path, words):
    """Without it, the directory of the configuration: not one below."""
    house.app("one")
    house.write(path)
    done = house.check()
    assert done.returncode == 78
    assert words.format(directory=house.directory) in done.stderr
    house.write("one")
    assert house.check().returncode == 0


def test_root_imports_from_there_only_what_nobody_else_may_write(house, as_root):
    one = house.app("one")
    house.write("one")
    (one / "besideone.py").chmod(0o666)
    done = house.check()
    assert done.returncode == 78
    assert f"root does not import from {one}: {one}/besideone.py: any user may write it" in done.stderr


def test_hang_up(house, serve):
    house.app("one")
    house.app("two")
    house.write("one")
    server = serve(options=["-c", "sockd.toml"])
    os.replace(house.directory / "one", house.directory / "former")
    house.write("two")
    server.signal(signal.SIGHUP)
    server.wait_for("reloaded")
    assert server.connect().ask(b"a") == b"two a"
