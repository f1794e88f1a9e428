# SPDX-License-Identifier: MIT
"""The log in a file, at syslog, in the journal: what arrives there, and after rotation.

Seen to fail: with reopen() doing nothing the renamed file grows; without the count of lost
lines nobody learns of them.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import struct
import subprocess

import pytest
from controlling import Sockctl
from watching import _until

from sockd.config.load import loads
from sockd.errors import ConfigurationError, SystemFault
from sockd.log.format import TextFormatter, kept
from sockd.log.targets import FACILITIES, CollectorHandler, FileHandler, JournalHandler, SyslogHandler, open_target
from sockd.settings import LogSettings


@pytest.fixture
def root():
    """Give the root logger, and put it back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def keeper(tmp_path):
    """A socket as the system's logger has it: `path`, `messages()`."""

    class Keeper:
        path = str(tmp_path / "log.sock")

        def __init__(self):
            self.listen()

        def listen(self):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(self.path)
            self.socket.settimeout(10)

        def close(self):
            self.socket.close()
            os.unlink(self.path)

        def message(self):
            data, rights, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
            if rights:
                with open(rights[0], "rb") as file:
                    file.seek(0)
                    return file.read()
            return data

    keeper = Keeper()
    yield keeper
    keeper.close()


def record(message, level=logging.INFO, **event):
    one = logging.LogRecord("sockd.test", level, "f.py", 1, message, (), None)
    one.event = event
    return one


def write(handler, message, level=logging.INFO, **event):
    handler.handle(record(message, level, **event))


# ---- a file


def test_a_renamed_file_is_let_go_when_told(root, tmp_path):
    path = tmp_path / "log"
    handler = open_target(LogSettings(to=str(path)))
    write(handler, "one")
    path.rename(tmp_path / "log.1")
    write(handler, "two")
    handler.reopen()
    write(handler, "three")
    handler.reopen()  # the same file: nothing to do
    write(handler, "four")
    assert [line.split()[2] for line in (tmp_path / "log.1").read_text().splitlines()] == ["one", "two"]
    assert [line.split()[2] for line in path.read_text().splitlines()] == ["three", "four"]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_opened_again_leaves_the_old_one(root, tmp_path):
    path = tmp_path / "log"
    handler = open_target(LogSettings(to=str(path)))
    path.rename(tmp_path / "log.1")
    path.mkdir()
    with pytest.raises(SystemFault, match="it is a directory"):
        handler.reopen()
    write(handler, "still")
    assert "still" in (tmp_path / "log.1").read_text()


def test_lost_lines_are_counted(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full (full(4))")
    handler = FileHandler("/dev/full")
    write(handler, "lost")
    write(handler, "lost too")
    good = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(good, handler.fileno())  # the disk has room again
    os.close(good)
    write(handler, "arrived")
    handler.close()
    assert (tmp_path / "log").read_text().splitlines() == ["log records lost", "arrived"]


# ---- syslog


def test_syslog_gets_its_priority_and_no_time(keeper):
    handler = SyslogHandler(keeper.path)
    handler.setFormatter(TextFormatter(stamped=False))
    pid = os.getpid()
    for level, severity in ((logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3)):
        write(handler, "hello", level, peer="tcp://127.0.0.1:1")
        assert keeper.message() == f"<{24 + severity}>sockd[{pid}]: hello peer=tcp://127.0.0.1:1".encode()
    try:
        raise ValueError("x")
    except ValueError as error:
        one = record("failed", logging.ERROR)
        one.exc_info = (ValueError, error, error.__traceback__)
    handler.handle(one)
    assert keeper.message() == f"<27>sockd[{pid}]: failed".encode()
    assert keeper.message() == f"<27>sockd[{pid}]:     Traceback (most recent call last):".encode()
    while not (line := keeper.message()).endswith(b"    ValueError: x"):
        assert line.startswith(f"<27>sockd[{pid}]:     ".encode())
    handler.close()


def test_syslog_that_starts_again_is_found_again(keeper):
    handler = SyslogHandler(keeper.path)
    keeper.close()
    write(handler, "nobody hears this")
    keeper.listen()
    write(handler, "back")
    assert keeper.message().endswith(b"log records lost")
    assert keeper.message().endswith(b"back")
    handler.close()


def test_syslog_that_hangs_holds_nothing_up(keeper):
    handler = SyslogHandler(keeper.path)
    for number in range(5000):
        write(handler, f"line {number}")
    handler.close()


def test_a_line_too_long_for_syslog_is_cut(keeper):
    handler = SyslogHandler(keeper.path)
    write(handler, "x" * (1 << 20))
    assert len(keeper.message()) == 8192
    handler.close()


def test_no_syslog_is_told_with_the_remedy(tmp_path):
    with pytest.raises(SystemFault, match=r"is it running\? To log to a file: log = \{ to = "):
        SyslogHandler(str(tmp_path / "none"))


# ---- the journal


def fields_of(entry):
    """The native protocol: NAME=value, or NAME, the length in 8 bytes, value."""
    found = {}
    while entry:
        head, _, entry = entry.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            size = struct.unpack_from("<Q", entry)[0]
            value, entry = entry[8 : 8 + size], entry[9 + size :]
        found[name.decode()] = value.decode()
    return found


@pytest.mark.parametrize("size", [1, 1 << 22])
def test_the_journal_gets_fields(keeper, size):
    handler = JournalHandler(keeper.path)
    handler.setFormatter(TextFormatter(stamped=False))
    write(handler, "closed", logging.WARNING, peer="p" * size, **{"close-reason": "a\nb"})
    fields = fields_of(keeper.message())
    assert fields["PRIORITY"] == "4"
    assert fields["SYSLOG_IDENTIFIER"] == "sockd"
    assert fields["SOCKD_PEER"] == "p" * size
    assert fields["SOCKD_CLOSE_REASON"] == "a\nb"
    assert fields["MESSAGE"].replace('"', "").startswith("closed peer=p")  # in quotes where its middle is left out
    handler.close()


# ---- the daemon


@pytest.fixture
def other_dev(tmp_path):
    """Words that run a program where /dev/log and the journal's socket are ours; (words, sockets)."""
    dev, run = tmp_path / "dev", tmp_path / "run"
    (run / "systemd" / "journal").mkdir(parents=True)
    dev.mkdir()
    binds = [f"mount --bind {run} /run"]
    for device in ("null", "urandom"):
        (dev / device).touch()
        binds.append(f"mount --bind /dev/{device} {dev}/{device}")
    words = ("unshare", "-m", "sh", "-c", " && ".join([*binds, f"mount --bind {dev} /dev", 'exec "$@"']), "sh")
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace cannot be made here")
    sockets = {}
    for name, path in (("syslog", dev / "log"), ("journal", run / "systemd" / "journal" / "socket")):
        sockets[name] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sockets[name].bind(str(path))
        sockets[name].settimeout(10)
    yield words, sockets
    for one in sockets.values():
        one.close()


@pytest.mark.parametrize(
    ("setting", "heard"),
    [
        ('log = { to = "syslog" }', "syslog"),
        ('log = { level = "info" }', "syslog"),  # what the background has if nothing is said
        ('log = { to = "journal" }', "journal"),
    ],
)
def test_the_daemon_is_heard(background, other_dev, setting, heard):
    words, sockets = other_dev
    one = background(daemon=setting, prefix=words)
    assert one.code == 0, one.words
    while b"listening address=tcp://" not in (message := sockets[heard].recv(65536)):
        pass
    assert (b"SYSLOG_IDENTIFIER=sockd" if heard == "journal" else b"<30>sockd[%d]: " % one.pid) in message


def test_the_daemon_reopens_its_log(background, tmp_path):
    one = background(listen=f"unix:{tmp_path}/s")
    one.log.rename(one.log.with_suffix(".1"))
    one.send(signal.SIGUSR1)
    _until(one.log.exists)
    assert one.wait_for("log reopened")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f"{tmp_path}/s")
    assert one.wait_for("closed")


def test_a_dropped_daemon_reopens_its_log_or_says_so(background, as_root, open_path, tmp_path):
    """In a directory of root's: what logrotate makes for it can be opened, what is root's cannot."""
    one = background(daemon=f'user = "nobody"\ncontrol = "{tmp_path}/control.sock"')
    old = one.log.with_suffix(".1")
    one.log.rename(old)
    one.send(signal.SIGUSR1)
    _until(lambda: "log not reopened, still writing to the old one" in old.read_text())
    sockctl = Sockctl(tmp_path)
    text = "log not reopened, still writing to the old one: daemon.log.to"
    for verb in ("status", "reload"):
        ran = sockctl.run(verb)
        assert ran.returncode == 0
        assert text in ran.stderr
    one.log.touch()
    os.chown(one.log, 65534, 65534)
    one.send(signal.SIGUSR1)
    assert one.wait_for("log reopened")
    assert sockctl.run("status").stderr == ""


@pytest.fixture
def collector():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


RFC_5424 = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) "
    rb"([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) - "
    rb"\xef\xbb\xbf([^\0-\x1f]*)"
)


def test_a_collector_gets_rfc_5424(root, collector):
    to = f"udp://127.0.0.1:{collector.getsockname()[1]}"
    open_target(LogSettings(to=to))
    logging.getLogger("sockd.test").warning("closed", extra={"event": {"peer": "umläut\n\x00"}})
    match = RFC_5424.fullmatch(collector.recv(65536))
    assert match
    assert match[1] == b"28"  # 3 (daemon) * 8 + 4 (warning)
    assert (match[4], match[5], match[6]) == (b"sockd", b"%d" % os.getpid(), b"sockd.test")
    assert match[7].decode() == 'closed peer="umläut\\n\\x00"'
    logging.getLogger("sockd." + "long" * 20).error("ä" * 20_000)
    long = collector.recv(65536)
    assert len(long) in (8191, 8192)
    assert RFC_5424.fullmatch(long)
    assert long.decode().endswith("ä")


def test_a_collector_that_comes_again(collector):
    port = collector.getsockname()[1]
    handler = CollectorHandler(f"udp://127.0.0.1:{port}")
    handler.setFormatter(TextFormatter(stamped=False))
    collector.close()
    for _ in range(2):
        write(handler, "to nobody")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))
        again.settimeout(10)
        write(handler, "found")
        assert again.recv(65536).endswith((b"found", b"log records lost count=1"))
    handler.close()


def test_a_collector_that_cannot_be_found():
    with pytest.raises(SystemFault, match=r"daemon\.log\.to: udp://no\.such\.host\.invalid:514: "):
        CollectorHandler("udp://no.such.host.invalid:514")


# ---- for who writes when no Python runs


@pytest.mark.parametrize("kind", [SyslogHandler, JournalHandler])
def test_what_is_written_is_told_beforehand(keeper, kind):
    handler = kind(keeper.path)
    handler.setFormatter(TextFormatter(stamped=False))
    one = record("ended by force", logging.ERROR, at="a b")
    raw = handler.raw(one)
    handler.handle(one)
    assert (raw.data, raw.is_socket, raw.fd) == (keeper.message(), True, handler._socket.fileno())
    assert raw.is_quoted == (kind is SyslogHandler)
    handler.close()


def test_what_a_collector_gets_is_told_beforehand():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(10)
        handler = CollectorHandler(f"udp://127.0.0.1:{collector.getsockname()[1]}")
        handler.setFormatter(TextFormatter(stamped=False))
        one = record("ended by force", logging.ERROR, at="a b")
        raw = handler.raw(one)
        handler.handle(one)
        assert (raw.data, raw.is_socket) == (collector.recv(1000), True)
        handler.close()


def test_a_file_that_is_kept_is_not_closed(root, tmp_path):
    """logging.config closes every handler that it finds"""
    handler = open_target(LogSettings(to=str(tmp_path / "log")))
    with kept():
        logging.shutdown([lambda: handler])
        root.handlers.clear()
    write(handler, "still")
    assert handler in root.handlers
    handler.close()
    assert "still" in (tmp_path / "log").read_text()


# ---- facility, and limits of a file


def test_the_facility_is_that_of_the_settings(keeper):
    handler = SyslogHandler(keeper.path, facility=FACILITIES["local3"])
    write(handler, "one")
    assert keeper.message().startswith(b"<158>sockd[")  # 19 * 8 + 6
    handler.close()


@pytest.mark.parametrize(
    ("sizes", "said"),
    [((None, 300), ["max_size, no more is written"]), ((300, None), ["warn_size"]), ((1000, 2000), [])],
)
def test_a_file_that_is_too_large_when_it_is_opened_says_so(tmp_path, sizes, said):
    """Seen to fail: nothing was written, and nothing said why."""
    path = tmp_path / "log"
    path.write_text("x" * 400 + "\n")
    handler = FileHandler(str(path), sizes=sizes)
    lines = path.read_text().splitlines()[1:]
    assert [line.partition(" bytes=")[0] for line in lines] == [f"log file larger than {one}" for one in said]
    path.rename(tmp_path / "log.1")
    handler.reopen()
    assert path.read_text() == ""
    path.write_text("x" * 400 + "\n")
    handler.reopen()
    assert len(path.read_text().splitlines()) == 1 + len(said)
    handler.close()


def test_a_file_warns_and_then_stops_until_it_is_emptied(tmp_path):
    path = tmp_path / "log"
    handler = FileHandler(str(path), sizes=(100, 300))
    for number in range(60):
        write(handler, f"line {number:04} of some bytes")
    lines = path.read_text().splitlines()
    assert [line.partition(" bytes=")[0] for line in lines if "log file" in line] == [
        "log file larger than warn_size",
        "log file larger than max_size, no more is written",
    ]
    assert lines[-1].startswith("log file larger than max_size")
    assert 300 <= path.stat().st_size < 300 + 100
    os.truncate(path, 0)  # copytruncate of logrotate(8)
    write(handler, "again")
    assert path.read_text().splitlines() == ["log records lost", "again"]
    handler.close()


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ('to = "syslog", max_size = "1 MiB"', "applies to a file"),
        ('to = "/var/log/x", facility = "mail"', "applies to syslog"),
        ('to = "/var/log/x", warn_size = "2 MiB", max_size = "1 MiB"', "is above max_size"),
        ('facility = "local8"', "local7"),
    ],
)
def test_keys_of_the_log_that_have_no_meaning(keys, error):
    with pytest.raises(ConfigurationError, match=error):
        loads(f'[daemon]\nlog = {{ {keys} }}\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n', name="t")
