# SPDX-License-Identifier: MIT
"""`make install` into a directory: what is there works from there.

Seen failing, each once: a page left out, --root left out (in a mount namespace of its own).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 110
PAGES = ("man1/sockctl.1", "man3/sockbuf.3", "man5/sockd.toml.5", "man8/sockd.8")

pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="the tests stand alone, without a Makefile")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Everything below a DESTDIR, with PREFIX=/usr."""
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("needs make(1) and cc(1)")
    directory = tmp_path_factory.mktemp("root")
    words = ["make", "-s", "-C", ROOT, "install", f"DESTDIR={directory}", "PREFIX=/usr"]
    words += [f"VENV={sys.prefix}", f"PYTHON={sys.executable}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture
def run(root):
    """Run a command that was installed; the package it finds is the installed one."""
    (package,) = root.glob("usr/lib/python3*/*-packages/sockd")
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(*words):
        return subprocess.run(list(words), capture_output=True, text=True, cwd="/", env=environment, timeout=LIMIT_S)

    return start


@pytest.mark.parametrize("name", ["sockd", "sockctl"])
def test_commands(root, run, name):
    done = run(f"{root}/usr/bin/{name}", "--version")
    assert (done.returncode, done.stdout) == (0, f"{name} {version('sockd')}\n")
    found = run(sys.executable, "-c", "import sockd._sockbuf; print(sockd._sockbuf.__file__)").stdout
    assert found.startswith(f"{root}/usr/lib/"), found


@pytest.mark.parametrize("page", PAGES)
def test_pages(root, page):
    if shutil.which("man") is None:
        pytest.skip("needs man(1)")
    done = subprocess.run(["man", "-l", root / "usr/share/man" / page], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0
    assert Path(page).stem in re.sub(r".\x08", "", done.stdout)


@pytest.mark.parametrize(
    "path",
    [
        "usr/share/bash-completion/completions/sockd",
        "usr/share/bash-completion/completions/sockctl",
        "usr/share/zsh/site-functions/_sockd",
        "usr/share/zsh/site-functions/_sockctl",
        "usr/share/fish/vendor_completions.d/sockd.fish",
        "usr/share/fish/vendor_completions.d/sockctl.fish",
        "usr/share/doc/sockd/README.md",
        "usr/share/doc/sockd/examples/app.py",
        "usr/share/doc/sockd/examples/inetd.conf",
        "usr/share/doc/sockd/examples/haproxy/haproxy.cfg",
        "usr/share/doc/sockd/examples/kubernetes/sockd.yaml",
        "usr/include/sockbuf.h",
        "usr/lib/libsockbuf.so",
        "usr/lib/pkgconfig/sockbuf.pc",
    ],
)
def test_files(root, path):
    assert (root / path).read_bytes()


def test_units(root):
    units = [*(ROOT / "packaging").glob("systemd/*.service"), *(ROOT / "packaging").glob("systemd/*.socket")]
    if not units:
        pytest.skip("packaging/systemd is not there")
    for unit in units:
        assert (root / "usr/lib/systemd/system" / unit.name).read_bytes() == unit.read_bytes()


def test_nothing_knows_where_it_was_built(root):
    """Neither DESTDIR nor the checkout is in a text that was installed."""
    for path in root.rglob("*"):
        data = path.read_bytes() if path.is_file() and not re.search(r"\.(so|a)[.\d]*$", path.name) else b""
        assert str(root).encode() not in data, path
        assert str(ROOT).encode() not in data.replace(sys.executable.encode(), b""), path
