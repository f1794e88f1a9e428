# SPDX-License-Identifier: MIT
"""`make install` and `make uninstall`: what is there works, nothing else is touched, nothing is left."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import requires, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 110
PAGES = ("man1/sockctl.1", "man3/sockbuf.3", "man5/sockd.toml.5", "man8/sockd.8")
NEXT = "0.1.99"

pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="the tests stand alone, without a Makefile")


def make(*words, source=ROOT):
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("needs make(1) and cc(1)")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    if source != ROOT:  # only for its number
        environment["SOCKD_CFLAGS"], words = "-O0", [*words, "CFLAGS=-O0"]
    words = ["make", "-s", "-C", source, *words, f"VENV={sys.prefix}", f"PYTHON={sys.executable}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Everything below a DESTDIR, with PREFIX=/usr."""
    directory = tmp_path_factory.mktemp("root")
    make("install", f"DESTDIR={directory}", "PREFIX=/usr")
    return directory


@pytest.fixture(scope="module")
def next_version(tmp_path_factory, root):
    """A copy of the checkout that is a later version; what it needs is there since `root` was made."""
    copy = tmp_path_factory.mktemp("later") / "sockd"
    for name in ("Makefile", "setup.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "MANIFEST.in"):
        copy.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy)
    for name in ("sockd", "csrc", "packaging", "docs", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("build", "__pycache__", "*.so"))
    (copy / "build").mkdir()
    shutil.copytree(ROOT / "build/dependencies", copy / "build/dependencies")
    for stamp in (ROOT / "build").glob(".dependencies-*"):  # not got once more
        shutil.copy2(stamp, copy / "build")
    declared = copy / "pyproject.toml"
    stamped = declared.stat()
    declared.write_text(declared.read_text().replace(f'version = "{version("sockd")}"', f'version = "{NEXT}"'))
    os.utime(declared, ns=(stamped.st_atime_ns, 0))
    (copy / "packaging/man/sockd.8").unlink()
    return copy


def run(*words, **options):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd="/", timeout=LIMIT_S, **options)


@pytest.mark.parametrize("name", ["sockd", "sockctl"])
def test_commands(root, name):
    python = root / "usr/lib/sockd/bin/python3"
    assert (root / "usr/bin" / name).resolve() == root / "usr/lib/sockd/bin" / name
    assert (root / "usr/bin" / name).read_text().startswith("#!/usr/lib/sockd/bin/python3 -s\n")
    done = run(python, root / "usr/bin" / name, "--version")
    assert (done.returncode, done.stdout) == (0, f"{name} {version('sockd')}\n")
    code = "import msgspec, psutil, sockd._sockbuf as it; print(it.__file__, msgspec.__file__, psutil.__file__)"
    for found in run(python, "-c", code).stdout.split():
        assert found.startswith(f"{root}/usr/lib/sockd/"), found


def test_what_top_needs_is_an_extra():
    """`pip install "build/wheel/sockd-...whl[top]"`, as docs/installation.md says."""
    assert [one for one in requires("sockd") if re.fullmatch(r'rich\b.*; extra == "top"', one)]


def test_the_packages_of_the_system_are_left_alone(root):
    """PEP 668: nothing below a directory that the system's Python imports from."""
    assert [path for path in root.rglob("*") if path.name in {"dist-packages", "site-packages"}] == [
        *(root / "usr/lib/sockd/lib").glob("python3*/site-packages")
    ]


def test_no_source_of_what_is_compiled_is_installed(root):
    (package,) = root.glob("usr/lib/sockd/lib/python3*/site-packages/sockd")
    assert [*package.rglob("*.[ch]")] == []
    assert (package / "daemon/control/status.html").exists()
    assert (package / "py.typed").exists()


def listing(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.timeout(3 * LIMIT_S)
def test_a_version_over_another_and_nothing_after_uninstall(tmp_path, next_version):
    """A daemon goes on over the installation, and `sockctl upgrade` then makes it the new one, with its connections."""
    prefix = tmp_path / "prefix"
    for name in ("share/doc", "lib/other"):
        (prefix / name).mkdir(parents=True)
    (prefix / "lib/other/file").write_text("not ours")
    before = listing(tmp_path)
    make("install", f"PREFIX={prefix}")
    sockd, sockctl = prefix / "bin/sockd", prefix / "bin/sockctl"
    assert run(sockd, "--version").stdout == f"sockd {version('sockd')}\n"
    config = tmp_path / "sockd.toml"
    config.write_text(f"""
        [daemon]
        control = "{tmp_path}/control"
        user = "root"
        pidfile = "{tmp_path}/pid"
        log = {{ to = "{tmp_path}/log" }}
        [[listen]]
        address = "unix:{tmp_path}/upper"
        service = "upper"
    """)
    done = run(sockd, "-c", config)
    assert done.returncode == 0, done.stderr
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"{tmp_path}/upper")
            peer.settimeout(LIMIT_S)
            peer.send(b"one\n")
            assert peer.recv(100) == b"ONE\n"
            make("install", f"PREFIX={prefix}", source=next_version)
            assert run(sockd, "--version").stdout == f"sockd {NEXT}\n"
            assert run(sockctl, "--version").stdout == f"sockctl {NEXT}\n"
            peer.send(b"two\n")
            assert peer.recv(100) == b"TWO\n"
            done = run(sockctl, "upgrade", "--control", f"{tmp_path}/control")
            assert done.returncode == 0, done.stdout + done.stderr
            assert f"sockd {NEXT}, pid " in run(sockctl, "status", "--control", f"{tmp_path}/control").stdout
            peer.send(b"three\n")
            assert peer.recv(100) == b"THREE\n"
    finally:
        stopped = run(sockctl, "stop", "--control", f"{tmp_path}/control")
    assert stopped.returncode == 0, stopped.stderr
    assert not (prefix / "share/man/man8/sockd.8").exists()  # which the later version does not have
    assert len([*prefix.glob("lib/sockd/lib/python3*/site-packages/sockd-*.dist-info")]) == 1
    make("uninstall", f"PREFIX={prefix}")
    made = {"sockd.toml", "control", "upper", "pid", "log"}
    assert [path for path in listing(tmp_path) if path not in made] == before


def test_uninstall_where_nothing_is(tmp_path):
    done = run(ROOT / "packaging/place", "--remove", tmp_path)
    missing = f"uninstall: nothing is installed here: {tmp_path}/installed is missing"
    assert done.returncode == 1
    assert done.stderr == f"{missing}; give the PREFIX and DESTDIR of the installation\n"


def test_a_container_image_gets_nothing_that_was_made_here():
    """A copied environment leads to a Python of another system: `podman build` failed after `make`."""
    (made,) = re.findall(r"^clean:\n\trm -rf (.+)$", (ROOT / "Makefile").read_text(), re.M)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for path in made.replace("$(VENV)", ".venv").split():
        assert any(fnmatch(path, pattern) for pattern in ignored), path


def test_install_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    done = run(ROOT / "packaging/install", env={**os.environ, "PREFIX": f"{tmp_path}/file/x", "DESTDIR": ""})
    assert done.returncode == 77
    place = f"install: {tmp_path}/file: no directory that you may write"
    assert done.stderr.startswith(f"{place}: run make install as root, or with a PREFIX of your own")


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
        "usr/share/doc/sockd/examples/prometheus/sockd.rules.yml",
        "usr/share/doc/sockd/examples/fail2ban/filter.d/sockd.conf",
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
        pytest.skip("packaging/systemd does not exist")
    for unit in units:
        placed = (root / "usr/lib/systemd/system" / unit.name).read_text()
        assert placed == re.sub(r"^ExecStart=sockd ", "ExecStart=/usr/bin/sockd ", unit.read_text(), flags=re.M)


def test_the_configuration_includes_a_directory_that_is_made(root):
    include = tomllib.loads((root / "usr/share/doc/sockd/examples/systemd/sockd.toml").read_text())["include"]
    assert include == ["conf.d/*.toml"]
    assert "\nd /etc/sockd/conf.d 0755 root root -\n" in (root / "usr/lib/tmpfiles.d/sockd.conf").read_text()


def test_nothing_knows_where_it_was_built(root):
    """Neither DESTDIR nor the checkout is in a text that was installed."""
    for path in root.rglob("*"):
        data = path.read_bytes() if path.is_file() and not re.search(r"\.(so|a)[.\d]*$", path.name) else b""
        assert str(root).encode() not in data, path
        assert str(ROOT).encode() not in data.replace(sys.prefix.encode(), b""), path
