# SPDX-License-Identifier: MIT
"""Takes mails and keeps each as a file: the receiving side of SMTP (RFC 5321), with STARTTLS (RFC 3207).

With mail_sink.toml, which has the listener and its certificate, in this directory; then in another terminal:

    sockd --foreground -c mail_sink.toml
    curl --ssl-reqd --cacert /etc/ssl/localhost.pem smtp://localhost:2525 \\
        --mail-from ann@example.com --mail-rcpt bob@example.org --upload-file mail.txt
    openssl s_client -starttls smtp -connect localhost:2525 -CAfile /etc/ssl/localhost.pem

The files are in the directory `mails`, or where $MAIL_SINK says. Mails are taken over encrypted connections alone.
"""

import itertools
import os
import socket
import time
from pathlib import Path

import sockd

MAILS = Path(os.environ.get("MAIL_SINK", "mails"))
HOST = socket.gethostname()
COMMANDS = sockd.Line(512, b"\r\n")  # RFC 5321, 4.5.3.1.4
MAIL = sockd.DotBlock(10 * 1024 * 1024)

service = sockd.Service(framing=COMMANDS, idle_timeout=300)  # RFC 5321, 4.5.3.2.7
numbers = itertools.count()


@service.startup
def prepare() -> None:
    """Make the directory."""
    MAILS.mkdir(exist_ok=True)


def keep(sender: str, recipients: list[str], mail: bytes) -> str:
    """Write a mail to a file of its own, which has its name once it is whole."""
    name = f"{time.time_ns()}.{os.getpid()}.{next(numbers)}"
    head = f"Return-Path: {sender}\n" + "".join(f"X-Envelope-To: {one}\n" for one in recipients)
    part = MAILS / f".{name}"
    with part.open("wb") as file:
        file.write(head.encode() + mail.replace(b"\r\n", b"\n"))
        os.fsync(file.fileno())
    part.rename(MAILS / name)
    return name


def address(argument: str, word: str) -> str | None:
    """Return the path behind `FROM:` or `TO:`, None where there is none."""
    before, _, path = argument.partition(":")
    path = path.strip().partition(" ")[0]
    return path if before.upper() == word and path.startswith("<") and path.endswith(">") else None


@service.connect
class Receiver(sockd.Protocol):
    """One client: commands, and between DATA and a dot alone a mail."""

    def connection_made(self, transport: sockd.Connection) -> None:
        """Greet."""
        self.transport = transport
        self.sender: str | None = None
        self.recipients: list[str] = []
        self.say(f"220 {HOST} ESMTP")

    def say(self, text: str) -> None:
        """Write a line."""
        self.transport.write(text.encode() + b"\r\n")

    @property
    def is_encrypted(self) -> bool:
        """Whether STARTTLS is done."""
        return self.transport.get_extra_info("ssl_object") is not None

    def frame_received(self, frame: bytes) -> None:
        """Take a command, or a mail."""
        if self.transport.framing == MAIL:
            self.mail(frame)
            return
        verb, _, argument = frame.rstrip(b"\r\n").decode("ascii", "replace").partition(" ")
        answer = getattr(self, f"do_{verb.lower()}", None)
        self.say(answer(argument.strip()) if answer else "500 What is that?")

    def mail(self, frame: bytes) -> None:
        """Keep what came behind DATA."""
        self.transport.set_framing(COMMANDS)
        name = keep(self.sender or "<>", self.recipients, frame)
        self.do_rset("")
        self.say(f"250 Kept as {name}")

    def do_helo(self, argument: str) -> str:
        """Greet a client that knows no extensions."""
        return f"250 {HOST}" if argument else "501 HELO who?"

    def do_ehlo(self, argument: str) -> str:
        """Name the extensions."""
        self.do_rset("")
        names = [HOST, "PIPELINING", "8BITMIME", *([] if self.is_encrypted else ["STARTTLS"])]
        self.transport.write(b"".join(f"250-{name}\r\n".encode() for name in names))
        return f"250 SIZE {MAIL.max_bytes}"

    def do_starttls(self, argument: str) -> str:
        """Go on encrypted, and from the beginning (RFC 3207, 4.2)."""
        if argument or self.is_encrypted:
            return "501 No argument, and once"
        self.do_rset("")
        self.transport.start_tls()
        return "220 Go ahead"

    def do_mail(self, argument: str) -> str:
        """Begin a mail."""
        if not self.is_encrypted:
            return "530 Must issue a STARTTLS command first"
        self.do_rset("")
        self.sender = address(argument, "FROM")
        return "250 OK" if self.sender else "501 MAIL FROM:<address>"

    def do_rcpt(self, argument: str) -> str:
        """Note a recipient."""
        recipient = address(argument, "TO")
        if self.sender is None or not recipient:
            return "501 RCPT TO:<address>, behind MAIL"
        self.recipients.append(recipient)
        return "250 OK"

    def do_data(self, _argument: str) -> str:
        """Let the mail come."""
        if not self.recipients:
            return "503 For whom?"
        self.transport.set_framing(MAIL)
        return "354 End with a dot"

    def do_rset(self, _argument: str) -> str:
        """Forget what was begun."""
        self.sender, self.recipients = None, []
        return "250 OK"

    def do_noop(self, _argument: str) -> str:
        """Do nothing."""
        return "250 OK"

    def do_quit(self, _argument: str) -> str:
        """Say good-bye."""
        raise sockd.Close(b"221 Bye")
