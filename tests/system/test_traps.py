# SPDX-License-Identifier: MIT
"""Root in a directory of another user: nothing of it is read or run, whatever the command; trusted files.

Seen to fail: with files of others trusted, 20 of these; with handlers imported from anywhere, eight; with a FIFO opened
as a file is, twelve; with the directory of handlers in front of Python's own, the one of that name.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sockd.files.trusted import why_not_imported

BIN = Path(sys.executable).parent
MODULES = ("stringprep", "psutil", "msgspec", "app", "sitecustomize", "usercustomize", "json", "ssl", "sockd")
PACKAGES = ("encodings", "sockd", "asyncio", "importlib")
SAFE = '[daemon]\nuser = "root"\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'
NOTICED = re.compile(r'newfstatat\(AT_FDCWD, "sockd\.toml", .*AT_SYMLINK_NOFOLLOW\)')
"""Root is told that there is one, which it has to name: lstat(2) opens and follows nothing."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what root does")
strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture
def traps(tmp_path):
    """A directory of somebody else's, with all that a program might look for."""
    directory = tmp_path / "traps"
    directory.mkdir()
    for name in MODULES:
        (directory / f"{name}.py").write_text("raise SystemExit('trapped')\n")
    for name in PACKAGES:
        (directory / name).mkdir()
        (directory / name / "__init__.py").write_text("raise SystemExit('trapped')\n")
    for name in ("sockd.toml", "inetd.conf", "openssl.cnf", ".env", "pyvenv.cfg"):
        (directory / name).write_text("trapped = true\n")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, 65534, 65534)
    return directory


def touched(directory, words, tmp_path, limit=60):
    """The files below the directory that a command looked at, and what it said."""
    log = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=%file", "-o", log, *words]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL
    )
    calls = [line for line in log.read_text(errors="replace").splitlines() if not NOTICED.search(line)]
    paths = re.findall(r'\w+\((?:AT_FDCWD, )?"([^"]*)"', "\n".join(calls))
    below = [os.path.normpath(directory / path) for path in paths]
    return sorted({path for path in below if path.startswith(f"{directory}/")}), done


@strace
@pytest.mark.parametrize(
    "words",
    [
        ["sockd", "-t", "-c", "{safe}"],
        ["sockd", "-T", "-c", "{safe}"],
        ["sockd", "-t"],
        ["sockd"],
        ["sockd", "--version"],
        ["sockd", "-t", "--listen", "tcp://127.0.0.1:0=upper"],
        ["sockd", "-t", "--listen", "tcp://127.0.0.1:0=app:handler"],
        ["sockd", "--inetd", "upper"],
        ["sockctl", "status"],
        ["sockctl", "connections", "--json"],
        ["sockctl", "reload"],
        ["sockctl", "plan", "{safe}"],
        ["sockctl", "import", "/etc/hosts"],
        ["sockctl", "connect", "tcp://bücher.invalid:1"],
        ["sockctl", "selftest", "--help"],
        ["sockctl", "bind", "x=tcp://127.0.0.1:0", "--", "true"],
    ],
    ids=" ".join,
)
def test_nothing_of_the_current_directory_is_read(traps, tmp_path, words):
    safe = tmp_path / "safe.toml"
    safe.write_text(SAFE)
    found, done = touched(traps, [BIN / words[0], *(word.format(safe=safe) for word in words[1:])], tmp_path)
    assert found == []
    assert "trapped" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@strace
def test_a_daemon_serves_beside_traps(traps, tmp_path):
    """To its end: what is imported late as well."""
    safe = tmp_path / "safe.toml"
    safe.write_text(SAFE)
    words = ["timeout", "-s", "TERM", "3", BIN / "sockd", "-f", "-c", safe]
    found, done = touched(traps, words, tmp_path)
    assert found == []
    assert "Press Ctrl-C to stop" in done.stdout


@strace
def test_a_selftest_among_traps(traps, tmp_path):
    found, done = touched(traps, [BIN / "sockctl", "selftest", "II.1"], tmp_path, 100)
    assert found == []
    assert "trapped" not in done.stdout + done.stderr


# ---- where handlers are found

HANDLER = "def greet(line):\n    return b'hello ' + line\n"


def check(*words, cwd, **options):
    command = [BIN / "sockd", "-t", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def house(tmp_path):
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "app.py").write_text(HANDLER)
    (directory / "sockd.toml").write_text('[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:greet"\n')
    return directory


def test_handlers_lie_beside_the_configuration_wherever_one_stands(house):
    assert check("-c", house / "sockd.toml", cwd="/").returncode == 0
    (house / "stringprep.py").write_text("raise SystemExit('trapped')\n")  # behind Python's own
    assert check("-c", house / "sockd.toml", cwd="/").returncode == 0


def test_what_a_handler_imports_of_pythons_own_is_pythons(house):
    """fails with the directory in front of sys.path"""
    name = next(one for one in ("colorsys", "sndhdr", "tabnanny", "cmd") if one in sys.stdlib_module_names)
    (house / f"{name}.py").write_text("raise ValueError('trapped')\n")
    (house / "app.py").write_text(f"import {name}\n{HANDLER}")
    done = check("-c", house / "sockd.toml", cwd="/")
    assert done.returncode == 0, done.stderr


def test_on_the_command_line_they_lie_in_the_current_directory(house):
    assert check("-l", "tcp://127.0.0.1:0=app:greet", cwd=house).returncode == 0


def package_that_others_write(house):
    (house / "package").mkdir()
    (house / "package/__init__.py").touch()
    (house / "package").chmod(0o777)
    (house / "data").mkdir()
    (house / "data").chmod(0o777)  # nothing is imported from there


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda house: (house / "app.py").chmod(0o666), "app.py"),
        (lambda house: os.chown(house / "app.py", 65534, 0), "app.py"),
        (lambda house: house.chmod(0o777), "etc"),
        (lambda house: os.chown(house, 65534, 0), "etc"),
        (lambda house: (house / "other.so").touch() or (house / "other.so").chmod(0o602), "other.so"),
        (package_that_others_write, "package"),
        (lambda house: os.chown(house.parent, 65534, 65534), "its parent"),
    ],
    ids=["file", "owner", "directory", "directory's owner", "another file", "a package", "above"],
)
def test_root_imports_none_that_others_may_write(house, spoil, named):
    spoil(house)
    done = check("-c", house / "sockd.toml", cwd="/")
    assert done.returncode == 78
    assert named in done.stderr
    assert "root does not import from" in done.stderr
    os.chown(house.parent, 0, 0)


def test_who_is_not_root_imports_his_own(house, monkeypatch):
    for path in (house, *house.iterdir()):
        os.chown(path, 65534, 65534)
    assert "it is owned by uid" in why_not_imported(str(house))
    monkeypatch.setattr(os, "geteuid", lambda: 65534)  # who seldom may run the Python of these tests
    assert why_not_imported(str(house)) == ""


# ---- files that are trusted


def settings_of(kind, path, certificates=None):
    return {
        "users": f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "s"\n[service.s.socks]\nusers = "{path}"\n',
        "password": '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "s"\n[service.s.relay]\n'
        f'to = ["tcp://127.0.0.1:1"]\nvia = "socks5://alice@127.0.0.1:1"\nvia_password = "{path}"\n',
        "key": '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'
        f'tls = {{ certificate = "{certificates.server.path}", key = "{path}" }}\n',
    }[kind]


@pytest.fixture(params=["configuration", "users", "password", "key"])
def trusted(request, tmp_path, certificates):
    """A file, and a command that reads it."""
    toml = tmp_path / "sockd.toml"
    path = toml if request.param == "configuration" else tmp_path / "file"
    if request.param == "configuration":
        toml.write_text(SAFE)
    else:
        toml.write_text('[daemon]\nuser = "root"\n' + settings_of(request.param, path, certificates))
        text = Path(certificates.server.key).read_text() if request.param == "key" else "alice:$scrypt$"
        path.write_text(text)

    def run():
        words = [BIN / "sockd", "-f", "-c", toml]
        done = subprocess.run(
            ["timeout", "-k", "1", "10", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return done.returncode, done.stderr

    return path, run


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.chmod(0o646), "any user may write it (mode 0646)"),
        (lambda path: os.chown(path, 65534, 0), "it is owned by uid 65534"),
        (lambda path: os.chown(path, 0, 65534) or path.chmod(0o660), "gid 65534 may write it (mode 0660)"),
    ],
    ids=["everybody", "owner", "group"],
)
def test_what_others_may_write_is_refused(trusted, spoil, why):
    path, run = trusted
    spoil(path)
    code, said = run()
    assert code == 78
    assert f"{path}: refused: {why}; chown root:root {path}; chmod go-w {path}" in said


@pytest.mark.parametrize("kind", ["FIFO", "directory", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(trusted, kind):
    path, run = trusted
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    code, said = run()
    assert code == 78
    assert f"{path}: is a {kind}, not a file" in said


@pytest.mark.parametrize("limit", range(4, 17))
@pytest.mark.parametrize("where", ["-f", "-t"])
def test_with_very_few_descriptors_it_serves_or_says_so_in_one_line(tmp_path, limit, where):
    (tmp_path / "sockd.toml").write_text(SAFE + "at_limit = 'refuse'\n")

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    words = ["timeout", "-s", "TERM", "1", BIN / "sockd", where, "-c", tmp_path / "sockd.toml"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, preexec_fn=few)
    lines = [line for line in done.stderr.splitlines() if line.startswith("sockd: ")]
    if done.returncode == 71:
        assert len(lines) == 1
        assert f"Too many open files: RLIMIT_NOFILE is {limit}; raise it" in lines[0] or "(EMFILE)" in lines[0]
    if limit > 8:  # Python itself has come so far
        assert done.returncode in (0, 71, 78, 124)
        assert "Traceback" not in done.stderr
