# SPDX-License-Identifier: MIT
"""examples/gopher.py asked by curl."""

from __future__ import annotations

import os

import pytest
from programs import needs, port_of

pytestmark = needs("curl", "curl")

NOT_THERE = [
    "/0/nothing",
    "/0/text.txt/behind",
    "/0/.hidden",
    "/0/sub/../.hidden",
    "/0/../app.py",
    "/0//etc/passwd",
    "/0/out/passwd",
    "/1/out",
    "/9/huge.bin",
    "/0/%ff",
    "/0/" + "n" * 500,
]
ERROR = b"3There is no such thing here\t\terror.host\t1\r\n.\r\n"


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "root"
    (directory / "sub").mkdir(parents=True)
    (directory / "text.txt").write_bytes(b"Gr\xc3\xbc\xc3\x9fe\n.\nbehind the dot\n")
    (directory / "large.bin").write_bytes(os.urandom(3_000_000))
    (directory / "huge.bin").touch()
    os.truncate(directory / "huge.bin", 9_000_000)
    (directory / ".hidden").write_text("hidden")
    (directory / "ta\tb").touch()
    (directory / "sub" / "page.html").write_text("<p>")
    (directory / "out").symlink_to("/etc")
    return directory


@pytest.fixture
def get(serve_example, run, root):
    daemon = serve_example("gopher:service", environment={"GOPHER_ROOT": str(root)})

    def ask(path):
        done = run("curl", "-s", "--path-as-is", f"gopher://127.0.0.1:{port_of(daemon.addresses[0])}{path}")
        assert done.returncode == 0
        return done.stdout

    ask.daemon = daemon
    ask.port = port_of(daemon.addresses[0]).encode()
    yield ask
    daemon.stop()
    assert {event["reason"] for event in daemon.having("closed")} == {"closed"}


def test_menus(get):
    here = b"\t127.0.0.1\t" + get.port
    lines = get("/").split(b"\r\n")
    assert lines == [
        b"9huge.bin\t/huge.bin" + here,
        b"9large.bin\t/large.bin" + here,
        b"1out\t/out" + here,
        b"1sub\t/sub" + here,
        b"0text.txt\t/text.txt" + here,
        b".",
        b"",
    ]
    assert get("/1/sub").split(b"\r\n")[0] == b"hpage.html\t/sub/page.html" + here


def test_files(get, root):
    for name in ("text.txt", "large.bin"):
        assert get(f"/9/{name}") == (root / name).read_bytes()


def test_what_is_not_there(get):
    for path in NOT_THERE:
        assert get(path) == ERROR, path


def test_names_that_curl_does_not_send(get):
    assert get.daemon.connect().finish_with(b"/text.txt\0\r\n") == ERROR
    assert get.daemon.connect().finish_with(b"/text.txt\twords to look for\r\n").endswith(b"behind the dot\n")
