# SPDX-License-Identifier: MIT
"""examples/postfix_socketmap.py asked by the real postmap."""

from __future__ import annotations

import os

import pytest
from programs import find_socket, needs, port_of

postfix = needs("postmap", "postfix")

HANDLER = "postfix_socketmap:service"
BATCH_KEYS = 20_000
MAX_BYTES = 100_000  # socketmap_table(5)


@pytest.fixture
def postmap(run, tmp_path):
    """Run `postmap -q` with a configuration of its own."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\nmyhostname = mail.example.com\n")
    os.utime(tmp_path / "main.cf", (0, 0))  # Postfix waits two seconds for a younger file to settle

    def query(daemon, name, key, **options):
        table = f"socketmap:inet:127.0.0.1:{port_of(daemon.addresses[0])}:{name}"
        done = run(find_socket("postmap"), "-c", tmp_path, "-q", key, table, **options)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return query


@pytest.fixture
def serve_maps(serve_example, tmp_path):
    """Serve the text of a file of maps."""

    def start(text):
        (tmp_path / "maps").write_text(text)
        return serve_example(HANDLER, environment={"POSTFIX_SOCKETMAP_MAPS": str(tmp_path / "maps")})

    return start


ANSWERS = [
    ("virtual", "postmaster@example.com", "admin@example.com"),
    ("virtual", "müller@example.com", "jürgen@example.com, office@example.com"),
    ("transport", "example.org", "smtp:[mail.example.org]"),
    ("transport", "postmaster@example.com", None),
    ("virtual", "nobody@example.com", None),
    ("nowhere", "example.org", None),
]


@postfix
def test_look_up(serve_example, postmap):
    daemon = serve_example(HANDLER)
    for name, key, answer in ANSWERS:
        assert postmap(daemon, name, key) == ((1, "", "") if answer is None else (0, f"{answer}\n", "")), key


@postfix
def test_batch_over_one_connection(serve_maps, postmap):
    rows = [(f"user{number}@example.com", f"box {number}, 100% ü") for number in range(BATCH_KEYS)]
    daemon = serve_maps("".join(f"virtual {key} {value}\n" for key, value in rows))
    code, out, err = postmap(daemon, "virtual", "-", input="".join(f"{key}\n" for key, _ in rows).encode())
    daemon.stop()
    assert err == ""
    assert code == 0
    assert out.splitlines() == [f"{key}\t{value}" for key, value in rows]
    [connection] = daemon.having("closed")
    assert (connection["frames"], connection["reason"]) == (BATCH_KEYS, "eof")


@postfix
def test_long_answer(serve_maps, postmap):
    """As long as postmap takes one."""
    value = "v" * (MAX_BYTES - len("OK "))
    daemon = serve_maps(f"virtual key {value}\n")
    assert postmap(daemon, "virtual", "key") == (0, f"{value}\n", "")


def test_not_found(serve_example):
    daemon = serve_example(HANDLER)
    for request in (b"7:virtual,", b"0:,", b"8:virtual ,", b"20:virtual  example.org,"):
        assert daemon.connect().finish_with(request) == b"9:NOTFOUND ,", request


def test_bad_maps_are_refused_at_the_start(run, sockd, tmp_path, examples):
    maps = tmp_path / "maps"
    maps.write_text("# comment\n\nvirtual key\n")
    environment = {**os.environ, "POSTFIX_SOCKETMAP_MAPS": str(maps), "PYTHONDONTWRITEBYTECODE": "1"}
    words = ("--foreground", "--user", "root") if os.geteuid() == 0 else ("--foreground",)
    done = run(sockd, *words, "--listen", f"tcp://127.0.0.1:0={HANDLER}", cwd=examples, env=environment)
    assert done.returncode == 78
    assert f"{maps}:3: want MAP KEY VALUE".encode() in done.stderr
