# SPDX-License-Identifier: MIT
"""sockctl: argv -> one verb -> exit code of sysexits(3).

Only the command line is here; the verbs are in sockd.cli.verbs.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from typing import TYPE_CHECKING, NoReturn

from sockd._version import VERSION
from sockd.cli.arguments import Parser
from sockd.cli.output import with_output
from sockd.cli.verbs import IMPORT_FORMATS, PASSWORD_VARIABLE, PROGRAM, admin
from sockd.errors import EX_OK, EX_USAGE, AddressError, SockdError
from sockd.lazy import lazily
from sockd.log.escape import printable
from sockd.net.address.address import Address
from sockd.process.descriptors import fill_standard_streams
from sockd.text import nearest
from sockd.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sockd.cli.verbs import connect, import_
    from sockd.settings import Duration
    from sockd.settings.relay import SocksUrl
else:
    connect = lazily("sockd.cli.verbs.connect")
    import_ = lazily("sockd.cli.verbs.import_")

DEFAULT_TIMEOUT = "10s"  # a SYN is repeated after 1, 3 and 7 seconds (tcp(7)): the fourth has a chance
MAX_TIMEOUT_S = 86_400  # longer ones overflow the milliseconds of epoll_wait(2), and nobody waits a day
MAX_NAME = 255  # of a descriptor, sd_listen_fds(3)
EX_FAILED = 1  # a check of selftest
EX_INTERRUPTED = 130  # 128 + SIGINT, as the shell reports it


class _Parser(Parser):
    """argparse with the exit code of sysexits(3) for a wrong command line."""

    verbs: Collection[str] = ()

    def error(self, message: str) -> NoReturn:
        if wrong := re.match("argument VERB: invalid choice: '([^']*)'", message):
            near = nearest(wrong[1], self.verbs)
            message = f"{wrong[1]}: no such verb{f'; did you mean {near}?' if near else ''}"
        self.exit(EX_USAGE, f"{PROGRAM}: {message}\n{PROGRAM}: try '{self.prog} --help'\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb of sockctl.

    Args:
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        The exit code: 0, 1 a check failed, 64 usage, 71 system, 75 temporary, 77 permission,
        78 configuration, 130 interrupted.
    """
    return with_output(PROGRAM, lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    try:
        fill_standard_streams()
        words, program = _split_program(sys.argv[1:] if argv is None else argv)
        parser = make_parser()
        _check_control(parser, words)
        return _run(parser.parse_args([*words], argparse.Namespace(program=program)))
    except SockdError as error:
        for line in str(error).split("\n"):
            print(f"{PROGRAM}: {printable(line)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EX_INTERRUPTED


def _check_control(parser: _Parser, words: Sequence[str]) -> None:
    """Refuse --control, before the verb or behind it, where the verb has no use for it, and others before the verb.

    To argparse they would be options that nobody knows, and the word behind one an address, or a verb.
    """
    before = 2 if words[:1] == ["--control"] else 1 if words and words[0].startswith("--control=") else 0
    verb = words[before] if len(words) > before else ""
    is_given = any(word.partition("=")[0] == "--control" for word in words)
    if is_given and verb in parser.verbs and verb not in admin.VERBS:
        parser.error(f"--control: {verb} does not use the control socket; remove it")
    if verb in ("-c", "--config"):
        parser.error(f"{verb}: no such option; write --control and the path that [daemon] control names in sockd.toml")
    if verb.startswith("-") and verb not in parser._option_string_actions:
        parser.error(f"{verb}: options stand behind the verb, such as sockctl status --json")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.verb in admin.VERBS:
        return admin.run(arguments)
    if arguments.verb in ("connect", "import"):
        return connect.run(arguments) if arguments.verb == "connect" else import_.run(arguments)
    verbs: dict[str, Callable[[argparse.Namespace], int]] = {
        "selftest": _selftest,
        "bind": _bind,
        "password": _password,
    }
    return verbs[arguments.verb](arguments)


def _selftest(arguments: argparse.Namespace) -> int:
    from sockd.selftest import run  # here, for connect has no use for it and shall start fast

    return EX_OK if run(arguments.rows) else EX_FAILED


def _password(arguments: argparse.Namespace) -> int:
    from sockd.cli.verbs.password import user_line  # here, for connect has no use for it and shall start fast

    print(user_line(arguments.user))
    return EX_OK


def _split_program(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Split the arguments of `bind` from the program's own after "--"."""
    if argv[:1] != ["bind"] or "--" not in argv:
        return argv, ()
    index = list(argv).index("--")
    return argv[:index], argv[index + 1 :]


def _bind(arguments: argparse.Namespace) -> NoReturn:
    from sockd.cli.verbs import bind  # here, for connect has no use for it and shall start fast

    bind.run(
        arguments.addresses,
        arguments.program,
        user=arguments.user,
        group=arguments.group,
        chroot=arguments.chroot,
        stdin=arguments.stdin,
    )


def make_parser() -> _Parser:
    """Make the parser of the command line; the man pages and the completions are made from it."""
    parser = _Parser(prog=PROGRAM, description="Client and administration tool for sockd.", allow_abbrev=False)
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="print the version and exit")
    admin.add_control(parser, default=None)
    verbs = parser.add_subparsers(metavar="VERB", required=True, dest="verb")
    verb = verbs.add_parser(
        "connect",
        help="connect standard input and output to a service",
        description="Connect to ADDRESS, send standard input to it, and write its replies to standard output. "
        "On a stream, the sending side is shut down at the end of input, and replies are read until end of file. "
        "For udp and unixgram, each line is one datagram, and a reply to each is awaited.",
        allow_abbrev=False,
    )
    verb.add_argument(
        "address",
        metavar="ADDRESS",
        type=_address,
        help="tcp://host:port, udp://host:port, unix:/path, unixgram:/path, unixpacket:/path or vsock:cid:port",
    )
    verb.add_argument(
        "--timeout",
        metavar="TIME",
        type=_timeout,
        default=DEFAULT_TIMEOUT,
        help="time limit for connecting, for all addresses of a name together; for udp and unixgram, also for the last "
        "replies (%(default)s)",
    )
    verb.add_argument(
        "--proxy-header",
        choices=("v1", "v2"),
        help="send a PROXY header of this version first, as a proxy does",
    )
    verb.add_argument(
        "--via",
        metavar="SERVER",
        type=_via,
        help="connect through this SOCKS server, socks5://host:port or socks5://user@host:port; it resolves the name",
    )
    verb.add_argument(
        "--via-password",
        metavar="FILE",
        help=f"read the SOCKS password from the first line of FILE (default: {PASSWORD_VARIABLE} in the environment, "
        "else prompt for it)",
    )
    verb.add_argument("--tls", action="store_true", help="use TLS, and verify the server's certificate and its name")
    verb.add_argument("--ca", metavar="FILE", help="CA certificates (PEM) to trust instead of the system's")
    verb.add_argument(
        "--server-name",
        metavar="NAME",
        help="name expected in the server's certificate, if it differs from the host in ADDRESS",
    )
    verb.add_argument("--cert", metavar="FILE", help="client certificate (PEM), for a server that requires one")
    verb.add_argument("--key", metavar="FILE", help="private key of the client certificate, if in a separate file")
    verb.add_argument("--insecure", action="store_true", help="do not verify the server's certificate (testing only)")
    verb.add_argument(
        "--source",
        metavar="HOST",
        type=_host,
        help="local IP address to connect from; the system chooses the port",
    )
    verb = verbs.add_parser(
        "selftest",
        help="test on this host what the Unix socket FAQ requires of a server",
        description="Start a daemon on loopback and test it against each question of the Unix socket FAQ that does not "
        "need root. Print one line per question: the observation, and ok, failed or skipped. Takes about ten seconds. "
        "The exit code is 1 if a check failed.",
        allow_abbrev=False,
    )
    verb.add_argument(
        "rows",
        metavar="QUESTION",
        nargs="*",
        type=_row,
        help="run only these checks, such as II.17 or IV.4; default: all",
    )
    _add_bind(verbs)
    _add_import(verbs)
    admin.add_verbs(verbs)
    _add_password(verbs)
    parser.verbs = verbs.choices
    return parser


def _add_bind(verbs: argparse._SubParsersAction[_Parser]) -> None:
    verb = verbs.add_parser(
        "bind",
        help="bind addresses, drop root privileges, and execute a program with the sockets",
        usage="sockctl bind [--user USER] [--group GROUP] [--chroot DIR] [--stdin]\n"
        "                    [NAME=]ADDRESS... -- PROGRAM [ARG...]",
        description="Bind every ADDRESS, switch to USER permanently, and replace this process with PROGRAM. It "
        "inherits the sockets as descriptors 3 and up, as in sd_listen_fds(3) (LISTEN_FDS, LISTEN_PID, "
        "LISTEN_FDNAMES); with --stdin, it gets the only socket as standard input.",
        allow_abbrev=False,
    )
    verb.add_argument(
        "-u", "--user", metavar="USER", help="user to switch to, by name or number; to stay root, give --user root"
    )
    verb.add_argument("-g", "--group", metavar="GROUP", help="group to switch to, instead of the user's own")
    verb.add_argument(
        "--chroot", metavar="DIR", help="root directory for PROGRAM (chroot(2)), which is looked up inside it"
    )
    verb.add_argument("--stdin", action="store_true", help="pass the only socket as standard input")
    verb.add_argument(
        "addresses",
        metavar="[NAME=]ADDRESS",
        type=_named_address,
        nargs="+",
        help="tcp://host:port, udp://host:port, unix:/path, unixgram:/path, unixpacket:/path or vsock:cid:port; "
        "NAME is its name in LISTEN_FDNAMES",
    )


def _add_import(verbs: argparse._SubParsersAction[_Parser]) -> None:
    verb = verbs.add_parser(
        "import",
        help="convert the files of inetd, xinetd, tcpserver or of systemd's sockets to sockd.toml",
        description="Read inetd.conf, xinetd.conf, scripts that start tcpserver with the text of its rules, socket "
        "units of systemd with their services, or directories of such files, and print an equivalent sockd.toml. "
        "Settings without an equivalent are reported on standard error with file and line, and written as comments. "
        "Run it on the host that will serve: services that sockd would not accept there become comments. "
        "The exit code is 78 if no service is left.",
        allow_abbrev=False,
    )
    verb.add_argument(
        "files", metavar="FILE", nargs="+", help="a file, or a directory such as /etc/xinetd.d; includes are followed"
    )
    verb.add_argument(
        "--format",
        choices=IMPORT_FORMATS,
        default="auto",
        help="dialect of inetd.conf, which defines the address families of tcp and udp: openbsd (Debian), inetutils or "
        "bsd (FreeBSD, NetBSD); or xinetd, tcpserver or systemd (auto: by what the files contain, else openbsd)",
    )
    verb.add_argument("--all", action="store_true", help="also convert disabled services")
    verb.add_argument(
        "--check-against",
        action="store_true",
        help="instead of a sockd.toml, print what would differ on this host: who holds each port now, what would "
        "become reachable, what would be lost; the exit code is 1 if anything differs",
    )


def _add_password(verbs: argparse._SubParsersAction[_Parser]) -> None:
    verb = verbs.add_parser(
        "password",
        help="create a line for the user file of a SOCKS server",
        description="Read a password, on a terminal twice, else from one line of standard input, and print "
        "USER:HASH for the file named by socks = { users = ... }. The hash is scrypt with a random salt.",
        allow_abbrev=False,
    )
    verb.add_argument("user", metavar="USER", help="name that the client logs in with")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"{PROGRAM} {VERSION}")
        parser.exit()


def _address(text: str) -> Address:
    try:
        address = Address.parse(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if address.scheme == "fd":
        raise argparse.ArgumentTypeError(
            f"{text!r}: fd: addresses are for sockd listeners only; give the address that the socket is bound to"
        )
    return address


def _named_address(text: str) -> tuple[str, Address]:
    name, equals, rest = text.partition("=")
    if not equals or ":" in name:  # an = behind the first colon belongs to a path
        return "unknown", _address(text)  # as sd_listen_fds_with_names(3) calls what has no name
    if not name or len(name) > MAX_NAME or not (name.isascii() and name.isprintable()):
        allowed = f"1 to {MAX_NAME} printable ASCII characters without a colon"
        raise argparse.ArgumentTypeError(f"{text!r}: NAME is {allowed}")
    return name, _address(rest)


def _via(text: str) -> SocksUrl:
    from sockd.settings.relay import read_via

    try:
        return read_via(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a numeric IP address") from None


def _row(text: str) -> str:
    from sockd.selftest import CHECKS

    rows = [check.row for check in CHECKS]
    if text not in rows:
        raise argparse.ArgumentTypeError(f"{text!r} is not a check; choose from {', '.join(rows)}")
    return text


def _timeout(text: str) -> Duration:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise argparse.ArgumentTypeError(f"{text!r}: must be more than 0 and at most a day")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
