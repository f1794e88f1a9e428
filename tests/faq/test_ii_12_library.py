# SPDX-License-Identifier: MIT
# Seen failing against a library whose sb_lines_find() counts a line for every byte.
"""FAQ II.12: the C library alone, in a C program, without Python and without the daemon."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
PROGRAM = r"""
#include "sockbuf.h"
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    sb_buffer *buffer = sb_buffer_new(4096);
    char piece[7];
    ssize_t got;
    int count = 0;
    while ((got = read(0, piece, sizeof piece)) > 0) {
        sb_lines found;
        if (sb_buffer_append(buffer, piece, (size_t)got) != 0)
            return 2;
        int lines = sb_lines_find(sb_buffer_data(buffer), sb_buffer_size(buffer), 0, 1000, &found);
        if (lines < 0)
            return 3;
        if (lines == 0)
            continue;
        count += lines;
        fwrite(sb_buffer_data(buffer), 1, found.end, stdout);
        sb_buffer_consume(buffer, found.end);
    }
    printf("%d lines, %zu bytes left\n", count, sb_buffer_size(buffer));
    sb_buffer_free(buffer);
    return 0;
}
"""


@pytest.fixture
def program(tmp_path):
    if not CSRC.exists():
        pytest.skip("needs csrc/")
    (tmp_path / "main.c").write_text(PROGRAM)
    dist = tmp_path / "dist"
    for words in (
        ["make", "-s", "-C", CSRC, "dist", f"BUILD={tmp_path}"],
        ["cc", "-I", dist, "-o", tmp_path / "program", tmp_path / "main.c", dist / "sockbuf.c"],
    ):
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return tmp_path / "program"


def test_a_c_program_cuts_lines_with_the_two_files_of_the_library(program):
    done = subprocess.run([program], input=b"hello\r\nwor" + b"l" * 50 + b"d\n\nrest", capture_output=True, timeout=20)
    assert done.stdout == b"hello\r\nwor" + b"l" * 50 + b"d\n\n3 lines, 4 bytes left\n"
    assert done.returncode == 0


def test_it_needs_nothing_but_the_c_library(program):
    if shutil.which("ldd") is None:
        pytest.skip("needs ldd(1)")
    needed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout.split()
    assert not [word for word in needed if "python" in word or "ffi" in word]
