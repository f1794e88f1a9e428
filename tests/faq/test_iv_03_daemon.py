# SPDX-License-Identifier: MIT
"""IV.3: how can I make my server a daemon? - the shell's side and /proc's; details are in tests/process.

Seen to fail: with the second fork left out.
"""

from __future__ import annotations

import os
from pathlib import Path


def test_the_shell_has_its_prompt_back_once_it_serves(background, tmp_path):
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    one = background(words=("--pidfile", f"{directory}/pid"))
    assert (one.code, one.output, one.words) == (0, "", "")
    assert one.ask(b"hello") == b"HELLO\n"
    pid = int((directory / "pid").read_text())
    assert pid == one.pid
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[3]) != pid, "it leads its session, and could get a terminal again"
    assert fields[4] == "0", "it has a terminal"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    second = background(words=("--pidfile", f"{directory}/pid"))
    assert second.code == 71
    assert f"a daemon is already running: pid {pid}" in second.words
    one.stop()
    assert not (directory / "pid").exists()


def test_a_start_that_fails_tells_why_in_the_shell(background):
    one = background(service="app:missing", app="def present(line):\n    return line\n")
    assert one.code == 78
    assert "has no 'missing'" in one.words
    assert not one.alive
