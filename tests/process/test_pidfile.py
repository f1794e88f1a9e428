# SPDX-License-Identifier: MIT
"""The pid file: one daemon, whatever stands at the path ("Shows" 5, FAQ IV.3).

Seen to fail: with the flock() left out two starts serve; with the kind of the file not looked at a
FIFO is taken, with its links not counted a hard link; with the sticky bit excusing the last directory it is
taken; with unlink() left out the file stays.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys

import psutil
import pytest
from watching import SOAK, _until

OTHER = 65534  # nobody


@pytest.fixture
def place(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir(mode=0o755)
    return directory / "sockd.pid"


@pytest.fixture
def start(background, place):
    def run(**more):
        return background(daemon=f'pidfile = "{place}"', **more)

    return run


def refused(one, code, *words):
    assert one.code == code
    assert "daemon.pidfile: " in one.words
    for word in words:
        assert word in one.words
    assert not one.alive


def test_it_holds_the_daemons_pid_and_goes_with_it(start, place):
    one = start()
    assert place.read_text() == f"{one.pid}\n"
    found = place.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o644)
    one.stop()
    assert not place.exists()


def test_a_live_one_is_named(start, place):
    one = start()
    second = start()
    refused(second, 71, str(place), "a daemon is already running", f"pid {one.pid} (sockd)")
    assert one.ask(b"still") == b"STILL\n"
    assert place.read_text() == f"{one.pid}\n"


def test_a_stale_one_is_taken_over(start, place):
    one = start()
    one.stop(signal.SIGKILL)
    assert place.exists()
    again = start()
    assert again.code == 0
    assert place.read_text() == f"{again.pid}\n"


def test_the_pid_of_a_stranger_is_stale_too(start, place):
    """A number that was given to another process meanwhile: that one lives on, and the file is taken over."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        place.write_text(f"{stranger.pid}\n")
        one = start()
        assert one.code == 0
        assert place.read_text() == f"{one.pid}\n"
        one.stop()
        assert stranger.poll() is None


def test_a_lock_without_a_number_is_told(start, place):
    place.touch(mode=0o644)
    with place.open("r+") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        refused(start(), 71, "a daemon is already running", "has not written its pid")
    assert place.read_text() == ""


def link(place, victim):
    place.symlink_to(victim)
    return 71, "a symbolic link"


def dangling(place, victim):
    place.symlink_to(victim.with_name("made"))
    return 71, "a symbolic link"


def hard_link(place, victim):
    os.link(victim, place)
    return 71, "a hard link"


def fifo(place, _victim):
    os.mkfifo(place)
    return 71, "a FIFO"


def directory(place, _victim):
    place.mkdir()
    return 71, "a directory"


def device(place, _victim):
    if os.geteuid():
        pytest.skip("to make a device needs root")
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    return 71, "a device"


def foreign(place, _victim):
    if os.geteuid():
        pytest.skip("to give a file away needs root")
    place.write_text("1\n")
    os.chown(place, OTHER, OTHER)
    return 77, f"belongs to uid {OTHER}"


def writable(place, _victim):
    place.write_text("1\n")
    place.chmod(0o666)
    return 77, "others can write it (mode 666)"


@pytest.mark.parametrize("attack", [link, dangling, hard_link, fifo, directory, device, foreign, writable])
def test_what_is_no_file_of_ours_is_refused_and_left(start, place, attack, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    code, said = attack(place, victim)
    before = place.lstat()
    refused(start(), code, str(place), said)
    assert place.lstat() == before
    assert victim.read_text() == "precious\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "shared", "victim"]


@pytest.mark.parametrize(
    ("mode", "said"), [(0o1777, "mode 1777"), (0o777, "mode 777"), (0o775, "mode 775"), (0o757, "mode 757")]
)
def test_a_directory_open_to_others_is_refused(start, place, mode, said):
    place.parent.chmod(mode)
    refused(start(), 77, str(place.parent), "can be written by others", said)
    assert not place.exists()


def test_a_directory_on_the_way_that_is_open_is_refused(start, place):
    """Whoever can rename a directory can put another one there."""
    place.parent.parent.chmod(0o777)
    refused(start(), 77, str(place.parent.parent), "can be written by others")


def test_a_directory_of_another_user_is_refused(start, place, as_root):
    os.chown(place.parent, OTHER, OTHER)
    refused(start(), 77, f"belongs to uid {OTHER}")


def test_a_link_that_leads_to_a_foreign_directory_is_refused(start, place, as_root, tmp_path):
    target = tmp_path / "theirs"
    target.mkdir()
    os.chown(target, OTHER, OTHER)
    place.parent.rmdir()
    place.parent.symlink_to(target)
    refused(start(), 77, str(target), f"belongs to uid {OTHER}")
    assert not list(target.iterdir())


def test_a_directory_that_is_not_there_is_told_with_the_remedy(start, place):
    place.parent.rmdir()
    refused(start(), 71, "its directory does not exist", f"install -d -m 755 {place.parent}")


def test_one_that_was_replaced_is_not_removed(start, place):
    one = start()
    place.unlink()
    place.write_text("another's\n")
    one.stop()
    assert place.read_text() == "another's\n"


def test_a_dropped_daemon_empties_what_it_may_not_remove(background, place, as_root, open_path):
    one = background(daemon=f'user = "nobody"\npidfile = "{place}"')
    assert one.code == 0, one.words
    assert place.read_text() == f"{one.pid}\n"
    assert place.stat().st_uid == 0
    one.stop()
    assert place.read_text() == ""
    assert background(daemon=f'user = "nobody"\npidfile = "{place}"').code == 0


def test_of_many_starts_at_once_one_serves(start, place):
    """A thousand with SOCKD_SOAK=1: each of the others names the one."""
    count, at_once = (1000, 100) if SOAK else (40, 40)
    runs = []
    for first in range(0, count, at_once):
        batch = [start(wait=False, start_new_session=True) for _ in range(first, min(first + at_once, count))]
        runs += [one.finish() for one in batch]
    served = [one for one in runs if one.code == 0]
    assert len(served) == 1
    assert {one.code for one in runs} == {0, 71}
    pid = served[0].pid
    assert place.read_text() == f"{pid}\n"
    assert all(f"a daemon is already running: pid {pid} (sockd)" in one.words for one in runs if one.code)
    assert served[0].ask(b"a") == b"A\n"


def test_in_the_foreground_it_is_kept_too(serve, place):
    server = serve("tcp://127.0.0.1:0=upper", options=["--pidfile", place])
    assert place.read_text() == f"{server.process.pid}\n"
    server.stop()
    assert not place.exists()


def test_it_is_locked_while_the_daemon_lives(start, place):
    one = start()
    with place.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process = psutil.Process(one.pid)
    one.send(signal.SIGKILL)
    _until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    with place.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
