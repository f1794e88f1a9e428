# SPDX-License-Identifier: MIT
"""Targets of the log besides standard error: a file, syslog, a collector, the journal.

Rules.  Everything is opened before privileges are dropped and the root directory changes.  A line that cannot be
written at once is dropped and counted, because the loop never blocks; the number of lost lines is the first line when
writing works again.  Source: syslog(3), RFC 3164, RFC 5424, and systemd's "Native Journal Protocol".
"""

from __future__ import annotations

import array
import codecs
import errno
import fcntl
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING

from sockd.errors import SystemFault, fault
from sockd.lazy import lazily, urls
from sockd.log.format import (
    JsonFormatter,
    Lossy,
    OwnHandler,
    RawRecord,
    TextFormatter,
    event_fields,
    install,
    severity,
    timestamp,
)
from sockd.log.outlet import LineWriter

if TYPE_CHECKING:
    from sockd.log import append_file
    from sockd.settings import LogSettings
else:
    append_file = lazily("sockd.log.append_file")

SYSLOG_SOCKET = "/dev/log"
JOURNAL_SOCKET = "/run/systemd/journal/socket"
IDENT = "sockd"
KEY = ("daemon", "log", "to")
FACILITIES = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8, "cron": 9,
    "authpriv": 10, "ftp": 11, **{f"local{number}": 16 + number for number in range(8)},
}  # fmt: skip
"""Numbers of syslog.h and RFC 5424, table 1; a priority has them times 8."""
DAEMON = FACILITIES["daemon"]
MAX_SYSLOG_BYTES = 8192  # RFC 5425 and rsyslog's default; a longer one is cut when the socket refuses it
MAX_HOST_NAME, MAX_MSGID = 255, 32  # RFC 5424, section 6
SYSLOG_PORT = 514  # RFC 5426
COLLECTOR = "udp://"
MAX_FIELD_NAME = 64  # of the journal


def open_target(settings: LogSettings, *, owner: tuple[int, int] | None = None, rooted: bool = False) -> OwnHandler:
    """Open the log of settings.to, and send the records of all loggers there.

    Args:
        settings: `to` is "syslog", "journal", udp://host:port or the absolute path of a file.
        owner: uid and gid of a new log file, so that the serving user can open it again.
        rooted: whether the root directory will change.

    Returns:
        The handler that was installed; its reopen() opens a file anew.

    Raises: SystemFault, PermissionFault: it cannot be opened; the message says which targets there are.
    """
    target: OwnHandler
    facility, ident = FACILITIES[settings.facility or "daemon"], settings.ident or IDENT
    if settings.to == "journal":
        return install(settings, JournalHandler(facility=facility, ident=ident), TextFormatter(stamped=False))
    if settings.to in (None, "syslog"):
        target = SyslogHandler(facility=facility, ident=ident)
        return install(settings, target, JsonFormatter() if settings.format == "json" else TextFormatter(stamped=False))
    if settings.to.startswith(COLLECTOR):
        target = CollectorHandler(settings.to, facility, ident)
        return install(settings, target, JsonFormatter() if settings.format == "json" else TextFormatter(stamped=False))
    sizes = settings.warn_size, settings.max_size
    return install(settings, FileHandler(settings.to, owner=owner, rooted=rooted, sizes=sizes))


class FileHandler(Lossy):
    """Appends lines to a file, and opens it again when it was rotated.

    Args:
        path: absolute; the file itself, not a link to one.
        owner: uid and gid of a new file.
        rooted: whether the root directory will change.
        sizes: in bytes, above which it warns, and above which nothing is written; None for no limit.
    """

    def __init__(
        self,
        path: str,
        *,
        owner: tuple[int, int] | None = None,
        rooted: bool = False,
        sizes: tuple[int | None, int | None] = (None, None),
    ) -> None:
        super().__init__()
        self._warn_size, self._max_size = sizes
        self._file = append_file.AppendFile(path, KEY, owner=owner, rooted=rooted)
        self._lines = LineWriter(lambda data: os.write(self._file.fileno(), data))
        self._warn_of_size(0)

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self._file.fileno()

    def reopen(self) -> None:
        """Open the file of that name, which may be another one now; keep the old one if that fails.

        Raises: SystemFault, PermissionFault: it cannot be opened; lines are still written to the old one.
        """
        self._file.reopen()
        self._warn_of_size(0)

    def send(self, record: logging.LogRecord) -> None:
        """Append its lines in one write(2), so that those of several writers do not mix."""
        if self._warn_size is None and self._max_size is None:
            self._lines.line(self._bytes(record))
            return
        before = os.fstat(self._file.fileno()).st_size  # others write to it, and empty it
        if self._max_size is not None and before >= self._max_size:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._lines.line(self._bytes(record))
        self._warn_of_size(before)

    def _warn_of_size(self, before: int) -> None:
        """Write that the file has grown past a limit since it had so many bytes: 0 where it has just been opened."""
        after = os.fstat(self._file.fileno()).st_size
        if self._warn_size is not None and before < self._warn_size <= after:
            self._lines.line(self._bytes(_record("log file larger than warn_size", after)))
        if self._max_size is not None and after >= self._max_size:
            self._lines.line(self._bytes(_record("log file larger than max_size, no more is written", after)))

    def _bytes(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode("utf-8", "backslashreplace")

    def raw(self, record: logging.LogRecord) -> RawRecord:
        """Return what would be appended for a record."""
        return RawRecord(self._file.fileno(), self._bytes(record))

    def end(self) -> None:
        """Close the file."""
        self._file.close()


def _record(message: str, size: int) -> logging.LogRecord:
    record = logging.LogRecord("sockd.log", logging.WARNING, __file__, 0, message, (), None)
    record.event = {"bytes": size}
    return record


class _SocketHandler(Lossy):
    """Sends datagrams to a socket of the system's logger, which may be restarted meanwhile."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__()
        self._socket_path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            text = f"{name}: {fault(error, path)}; is it running? To log to a file: log = {_TO_FILE}"
            raise SystemFault(text, key=KEY) from None

    def deliver(self, data: bytes) -> None:
        """Send one datagram; once more when the logger has been restarted."""
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOTCONN, errno.ECONNRESET):
                raise
            self._socket.connect(self._socket_path)
            self._socket.send(data)

    def end(self) -> None:
        """Close the socket."""
        self._socket.close()


class SyslogHandler(_SocketHandler):
    """syslog(3): one message a line."""

    def __init__(self, path: str = SYSLOG_SOCKET, *, facility: int = DAEMON, ident: str = IDENT) -> None:
        super().__init__(path, "syslog")
        self._facility, self._ident = facility, ident

    def send(self, record: logging.LogRecord) -> None:
        """Send each line of the record as a message of its own."""
        for message in self._messages(record):
            try:
                self.deliver(message)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                self.deliver(message[:MAX_SYSLOG_BYTES])

    def _messages(self, record: logging.LogRecord) -> list[bytes]:
        head = f"<{self._facility << 3 | severity(record)}>{self._ident}[{os.getpid()}]: ".encode()
        return [head + line.encode("utf-8", "backslashreplace") for line in self.format(record).split("\n")]

    def raw(self, record: logging.LogRecord) -> RawRecord:
        """Return the message of a record."""
        return RawRecord(self._socket.fileno(), self._messages(record)[0], is_socket=True)


class CollectorHandler(Lossy):
    """syslog over UDP (RFC 5424, RFC 5426): a datagram a line, to a collector that may be another host.

    Args:
        to: udp://host:port.  BLOCKS while the name is looked up.
        facility, ident: of the messages.

    Raises:
        SystemFault: it cannot be found or reached.
    """

    def __init__(self, to: str, facility: int = DAEMON, ident: str = IDENT) -> None:
        super().__init__()
        self._facility, self._ident = facility, ident
        where = urls.urlsplit(to)
        try:
            found = socket.getaddrinfo(where.hostname, where.port or SYSLOG_PORT, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, sockaddr = found[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            self._socket.connect(sockaddr)
        except OSError as error:
            text = f"{to}: {error.strerror or error}; is it a collector's address?"
            raise SystemFault(text, key=KEY) from None
        self._host = _header_word(socket.gethostname(), MAX_HOST_NAME)

    def send(self, record: logging.LogRecord) -> None:
        """Send each line of the record as a message of its own."""
        for message in self._messages(record):
            whole = message if len(message) <= MAX_SYSLOG_BYTES else _cut(message)
            try:
                self._socket.send(whole)
            except ConnectionRefusedError:  # the answer to an earlier one (udp(7)); somebody may listen again
                self._socket.send(whole)

    def _messages(self, record: logging.LogRecord) -> list[bytes]:
        head = f"<{self._facility << 3 | severity(record)}>1 {timestamp(record.created)} {self._host} "
        head += f"{self._ident} {os.getpid()} {_header_word(record.name, MAX_MSGID)} - "
        begin = head.encode() + codecs.BOM_UTF8
        return [begin + line.encode("utf-8", "backslashreplace") for line in self.format(record).split("\n")]

    def raw(self, record: logging.LogRecord) -> RawRecord:
        """Return the message of a record."""
        return RawRecord(self._socket.fileno(), self._messages(record)[0], is_socket=True)

    def end(self) -> None:
        """Close the socket."""
        self._socket.close()


def _header_word(text: str, max_characters: int) -> str:
    """Write a word of the header: printable ASCII without blanks, "-" for none."""
    return "".join(mark for mark in text if "!" <= mark <= "~")[:max_characters] or "-"


def _cut(message: bytes) -> bytes:
    """Cut a message, not in the middle of a character."""
    return message[:MAX_SYSLOG_BYTES].decode("utf-8", "ignore").encode()


class JournalHandler(_SocketHandler):
    """The journal's own protocol: each field of an event is a field there, `SOCKD_PEER=...`."""

    def __init__(self, path: str = JOURNAL_SOCKET, *, facility: int = DAEMON, ident: str = IDENT) -> None:
        super().__init__(path, "journal")
        self._facility, self._ident = facility, ident

    def send(self, record: logging.LogRecord) -> None:
        """Send one entry; one too long for a datagram goes in a sealed file of memory."""
        entry = self._entry(record)
        try:
            self.deliver(entry)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._deliver_in_memory(entry)

    def raw(self, record: logging.LogRecord) -> RawRecord:
        """Return the entry of a record; its fields are not quoted."""
        return RawRecord(self._socket.fileno(), self._entry(record), is_socket=True, is_quoted=False)

    def _entry(self, record: logging.LogRecord) -> bytes:
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(severity(record)),
            "SYSLOG_IDENTIFIER": self._ident,
            "SYSLOG_FACILITY": str(self._facility),
            "SOCKD_LOGGER": record.name,
            **{f"SOCKD_{_field_name(key)}": str(value) for key, value in event_fields(record).items()},
        }
        return b"".join(_journal_field(name, value) for name, value in fields.items())

    def _deliver_in_memory(self, entry: bytes) -> None:
        """Pass the entry as a descriptor, which the journal accepts when it can no longer change."""
        fd = os.memfd_create(IDENT, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(fd, entry)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
            self._socket.sendmsg([], [rights])
        finally:
            os.close(fd)


_TO_FILE = '{ to = "/var/log/sockd.log" }'


def _field_name(key: object) -> str:
    """Write a key as the journal requires it: A to Z, 0 to 9 and _."""
    return "".join(mark if mark.isascii() and mark.isalnum() else "_" for mark in str(key)).upper()[:MAX_FIELD_NAME]


def _journal_field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"


__all__ = ["KEY", "CollectorHandler", "FileHandler", "JournalHandler", "SyslogHandler", "open_target"]
