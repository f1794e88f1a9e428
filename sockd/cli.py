"""`sockd`: command line to Settings to Daemon.

Errors end here: each becomes lines on standard error and an exit code of
sysexits(3).  Nothing below this module exits the process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sockd import config, log
from sockd.daemon import Daemon, plan
from sockd.errors import EX_OK, EX_USAGE, SockdError, UsageError
from sockd.net.address import Address
from sockd.process.reloader import Reloader, report
from sockd.settings import ListenSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sockd.daemon import Plan

EXAMPLE_ADDRESS = "127.0.0.1:7007"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sockd",
        description="Serve small network services: a function answers a line.",
        epilog="Without --config: ./sockd.toml, else /etc/sockd/sockd.toml, else a built-in example.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", help="read this configuration")
    add("-f", "--foreground", action="store_true", help="stay in the foreground and log to standard error")
    add(
        "-l",
        "--listen",
        metavar="ADDRESS=SERVICE",
        action="append",
        default=[],
        help="serve SERVICE (a built-in or module:attribute) on ADDRESS; repeatable, needs no file",
    )
    add("-t", "--check", action="store_true", help="check the configuration and the handlers, bind nothing")
    add("-T", "--print", dest="show", action="store_true", help="check, and print the effective configuration")
    add("--multiplexer", metavar="NAME", help="auto, epoll, poll or select")
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    add("--log-format", metavar="FORMAT", help="text or json")
    add("--reload", action="store_true", help="start again when a source file changes (development)")
    add("-V", "--version", action="version", version=f"sockd {version('sockd')}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sockd`.

    Returns:
        The exit code: 0, 64 usage, 71 system, 75 temporary, 77 permission, 78 configuration.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    sys.path.insert(0, os.getcwd())  # handlers stand beside the configuration, as app.py
    try:
        return _run(options, arguments)
    except SockdError as error:
        for line in str(error).splitlines():
            print(f"sockd: {line}", file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if not (options.foreground or options.check or options.show):
        raise UsageError("running in the background is not there yet; use --foreground, or -t to check")
    if options.reload:
        command = [sys.executable, "-P", "-m", "sockd", *(word for word in arguments if word != "--reload")]
        return Reloader(command, lambda words: print(f"sockd: {words}", file=sys.stderr)).run()
    try:
        settings, source = _settings(options)
    except SockdError:
        report([str(options.config or config.LOCAL_FILE)])
        raise
    if options.show:
        plan(settings)
        print(config.dump(settings), end="")
        return EX_OK
    if options.check:
        for note in _port_notes(plan(settings)):
            print(f"sockd: {source}: note: {note}", file=sys.stderr)
        print(f"sockd: {source}: in order, {len(settings.listen)} listeners", file=sys.stderr)
        return EX_OK
    return _serve(settings, source)


def _port_notes(plans: Iterable[Plan]) -> Iterator[str]:
    """Point out the ports that services(5) registers for a service of another name (FAQ IV.11)."""
    for one in plans:
        for address in one.addresses:
            registered = address.registered_service()
            if registered is not None and registered != one.service.name:
                named = replace(address, port=registered)
                text = f"port {address.port} is registered for {registered} in /etc/services; that is written {named}"
                yield f"{address}: {text}"


def _serve(settings: Settings, source: str) -> int:
    handler = log.configure(settings.daemon.log, sys.stderr)
    daemon = Daemon(settings, lambda listeners: _greet(listeners, source))
    try:
        plan(settings)
    finally:
        report(_files(settings, source))
    try:
        daemon.run()
    finally:
        handler.flush()
    return EX_OK


def _files(settings: Settings, source: str) -> list[str]:
    """Name what is worth watching besides the imported modules: a handler's file counts before it exists."""
    names = [listen.service for listen in settings.listen]
    names += [table.handler for table in settings.service.values() if table.handler]
    modules = {name.partition(":")[0] for name in names if ":" in name}
    return [source, *(name.replace(".", os.sep) + ".py" for name in modules)]


def _check_address(text: str) -> Address | None:
    address = Address.parse(text)
    return None if address.port == 0 and not address.path else address  # the kernel chooses a port for each


def _settings(options: argparse.Namespace) -> tuple[Settings, str]:
    """Return the settings and the name of where they came from."""
    path = Path(options.config) if options.config else None
    if path is None and not options.listen:
        path = config.find()
    base, source = (config.load(path, check_address=_check_address), str(path)) if path else (Settings(), "")
    if not source:
        source = "the command line" if options.listen else "the built-in example"
        base = base if options.listen else _example()
    settings = config.from_command_line(
        options.listen,
        base=base,
        multiplexer=options.multiplexer,
        log_level=options.log_level,
        log_format=options.log_format,
        check_address=_check_address,
    )
    return settings, source


def _example() -> Settings:
    folder = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    addresses = (f"tcp://{EXAMPLE_ADDRESS}", f"udp://{EXAMPLE_ADDRESS}", f"unix:{folder}/sockd-example.sock")
    return Settings(listen=(ListenSettings(addresses=addresses, service="upper"),))


def _greet(listeners: Sequence[tuple[str, str]], source: str) -> None:
    """Say on the screen what is served and how to talk to it."""
    width = max(len(address) for address, _ in listeners)
    print(f"sockd {version('sockd')} serves, by {source}:", flush=True)
    for address, service in listeners:
        print(f"  {service} on {address:<{width}}   sockctl connect {address}", flush=True)
    print("Ctrl-C stops it.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
