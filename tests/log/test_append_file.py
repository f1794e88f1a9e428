# SPDX-License-Identifier: MIT
"""A file for the log and for programs: what is taken for one, whose it is, what is left open.

Seen to fail: with O_NOFOLLOW left out the link's target is written to; without the look at the
number of names a hard link's other name is; with reopen() that leaves the old one open
descriptors grow.
"""

from __future__ import annotations

import os

import pytest

from sockd.errors import SystemFault
from sockd.log.append_file import AppendFile


def link(path):
    path.symlink_to(path.with_name("victim"))
    return "it is a symbolic link"


def hard_link(path):
    path.with_name("victim").touch()
    os.link(path.with_name("victim"), path)
    return "hard link"


def fifo(path):
    os.mkfifo(path)
    return "it is a FIFO"


def directory(path):
    path.mkdir()
    return "it is a directory"


def nowhere(path):
    path.parent.rmdir()
    return "its directory does not exist"


@pytest.mark.parametrize("attack", [link, hard_link, fifo, directory, nowhere])
def test_what_leads_elsewhere_is_refused(tmp_path, attack):
    path = tmp_path / "sub" / "log"
    path.parent.mkdir()
    said = attack(path)
    with pytest.raises(SystemFault, match=said) as caught:
        AppendFile(str(path), ("the", "key"))
    assert str(caught.value).startswith(f"the.key: {path}: ")
    victim = path.with_name("victim")
    assert not victim.exists() or victim.read_text() == ""


def test_a_file_is_given_to_whom_shall_serve(tmp_path, as_root):
    AppendFile(str(tmp_path / "log"), ("log",), owner=(65534, 65534)).close()
    assert (tmp_path / "log").stat().st_uid == 65534
    (tmp_path / "old").touch()
    AppendFile(str(tmp_path / "old"), ("log",), owner=(65534, 65534)).close()
    assert (tmp_path / "old").stat().st_uid == 0  # what was there is whose it was


def test_nothing_is_left_open(tmp_path):
    """Neither by a refusal, nor by opening anew, nor at the end."""
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path, tmp_path / "none" / "log"):
        with pytest.raises(SystemFault):
            AppendFile(str(path), ("log",))
    assert os.listdir("/proc/self/fd") == before
    file = AppendFile(str(tmp_path / "log"), ("log",))
    while_open = len(os.listdir("/proc/self/fd"))
    for name in "abc":
        (tmp_path / "log").rename(tmp_path / name)
        file.reopen()
        assert len(os.listdir("/proc/self/fd")) == while_open
    file.close()
    file.close()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("blocking", [False, True])
def test_whether_writing_waits(tmp_path, blocking):
    """Of the log it must not, for the loop writes it; programs expect it."""
    file = AppendFile(str(tmp_path / "log"), ("log",), blocking=blocking)
    assert os.get_blocking(file.fileno()) is blocking
    (tmp_path / "log").rename(tmp_path / "old")
    file.reopen()
    assert os.get_blocking(file.fileno()) is blocking
    file.close()
