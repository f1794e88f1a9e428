# SPDX-License-Identifier: MIT
"""`sockd --foreground --trace`: a line of the log for each frame, and none without it; the log's colours.

Not part of it: how a field is escaped (tests/log/test_format.py).

Seen to fail: with TracedReceiver showing nothing; with NO_COLOR not asked for.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

SECRET = b"s3cret\x1b[2J"


@pytest.mark.parametrize(
    ("service", "answer"),
    [("upper", b"S3CRET\x1b[2J"), ("app:upper", b"S3CRET\x1b[2J"), ("app:Upper", b"S3CRET\x1b[2J")],
)  # fmt: skip
def test_each_frame_is_a_line_either_way(serve, service, answer):
    server = serve(f"tcp://127.0.0.1:0={service}", options=["--trace"])
    client = server.connect()
    assert client.ask(SECRET) == answer
    accepted = server.wait_for("frame", direction="in")
    went = server.wait_for("frame", direction="out")
    assert (accepted["peer"], accepted["bytes"], accepted["frame"]) == (client.name, len(SECRET), SECRET.decode())
    assert (went["connection"], went["frame"]) == (accepted["connection"], answer.decode() + "\n")


def test_without_it_no_content_is_logged_not_even_of_a_failure(serve, tmp_path):
    (tmp_path / "failing.py").write_text("def fail(line):\n    raise ValueError('it is wrong')\n")
    server = serve("tcp://127.0.0.1:0=failing:fail")
    client = server.connect()
    client.send(b"s3cret\n")
    server.end_of(client)
    assert not server.having("frame")
    assert server.having("handler failed")
    assert "s3cret" not in server.said()


def test_it_is_for_the_foreground(launch):
    server = launch("--trace")
    assert server.wait() == 64
    assert server.words == ["sockd: --trace is for development; use it with --foreground"]


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_levels_have_colours_on_a_terminal_unless_it_is_not_wanted(no_color, is_coloured):
    ours, theirs = pty.openpty()
    program = "import sys, logging; from sockd.log import format; from sockd.settings import LogSettings\n"
    program += "format.configure(LogSettings(), sys.stderr); logging.warning('here')"
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    try:
        subprocess.run([sys.executable, "-P", "-c", program], stderr=theirs, env=environment, check=True)
        said = os.read(ours, 1000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"here" in said
    assert (b"\x1b[33mwarning\x1b[0m" in said) == is_coloured


def test_a_traced_batch_answers_as_ever(serve, tmp_path):
    batch = "import sockd\nservice = sockd.Service()\nservice.frames(lambda lines: [line.upper() for line in lines])\n"
    (tmp_path / "batch.py").write_text(batch)
    server = serve("tcp://127.0.0.1:0=batch:service", options=["--trace"])
    assert server.connect().finish_with(b"a\nb\n") == b"A\nB\n"
    server.wait_for("frame", count=4)
    assert [e["frame"] for e in server.having("frame")] == ["a", "A\n", "b", "B\n"]
