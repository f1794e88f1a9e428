# SPDX-License-Identifier: MIT
"""A sink for syslog messages, over TCP (RFC 6587), UDP (RFC 5426) and Unix sockets of both kinds.

In this directory, then in another terminal:

    sockd --foreground -l tcp://127.0.0.1:5514=syslog_sink:service -l udp://127.0.0.1:5514=syslog_sink:service \\
        -l unix:/tmp/log.stream=syslog_sink:service -l unixgram:/tmp/log=syslog_sink:service
    logger --tcp --octet-count -n 127.0.0.1 -P 5514 hello
    logger --udp -n 127.0.0.1 -P 5514 -p mail.warning hello
    logger -u /tmp/log hello

Each message becomes a line of the file `messages`, or of the one that $SYSLOG_SINK_FILE names, behind its facility,
severity and sender: `user.notice 192.0.2.1 1 2026-01-01T00:00:00Z ...`.  When the file is moved away, the next message
begins a new one.
"""

import logging
import os
import re
from logging.handlers import WatchedFileHandler

import sockd

FILE = os.environ.get("SYSLOG_SINK_FILE", "messages")
MAX_BYTES = 8192  # RFC 5424, 6.1: 2048 should be taken, and more may be
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news"),
    *("uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
USER_NOTICE = 1 * 8 + 5  # for what says nothing of itself (RFC 3164, 4.3.3)

PRIORITY = re.compile(rb"<(\d{1,3})>")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# mixed: the first byte of each message tells whether its length stands before it, or LF behind it.
service = sockd.Service(framing=sockd.OctetCount(MAX_BYTES, mixed=True))

messages = logging.getLogger("syslog_sink.messages")
messages.propagate = False  # into the file, not into sockd's own log


@service.startup
def open_file() -> None:
    """Open the file: rights have been dropped by now, and nothing has been received yet."""
    messages.addHandler(WatchedFileHandler(FILE, encoding="utf-8"))


@service.frame
def keep(message: bytes, sender: sockd.Connection) -> None:
    """Keep one message: a frame of a stream, or a datagram, and whom it is from.  Nobody is answered."""
    found = PRIORITY.match(message)
    priority = int(found[1]) if found else USER_NOTICE
    if priority >= 8 * len(FACILITIES):
        found, priority = None, USER_NOTICE
    facility, severity = divmod(priority, 8)
    text = message[found.end() if found else 0 :].decode(errors="backslashreplace").rstrip("\r\n\0")
    # What is sent must not look like lines of its own, nor drive the terminal of whoever reads them.
    text = CONTROL.sub(lambda char: f"#{ord(char[0]):03o}", text)
    name = sender.get_extra_info("peername")
    host = name[0] if isinstance(name, tuple) else "local"  # of a Unix socket: this host
    messages.warning("%s.%s %s %s", FACILITIES[facility], SEVERITIES[severity], host, text)
