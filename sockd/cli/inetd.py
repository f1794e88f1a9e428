# SPDX-License-Identifier: MIT
"""`sockd --inetd`: standard input is served, and nothing of sockd itself is written to it."""

from __future__ import annotations

import io
import logging
import os
from contextlib import redirect_stderr
from typing import TYPE_CHECKING

from sockd.cli.options import read_plain
from sockd.config.command_line import from_command_line
from sockd.daemon import inetd
from sockd.daemon.inetd import inetd_settings, open_log
from sockd.errors import EX_OK, SockdError, UsageError
from sockd.files.kept_directory import current_directory
from sockd.lazy import lazily
from sockd.process import socket_activation
from sockd.process.descriptors import close_inherited
from sockd.process.inetd_stdio import detach_standard_streams
from sockd.process.syscalls import close_to_others
from sockd.services.handlers_path import look_in
from sockd.settings import LogSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.cli import config_source, sockd_parser
    from sockd.cli.options import Options
else:
    config_source = lazily("sockd.cli.config_source")
    sockd_parser = lazily("sockd.cli.sockd_parser")


logger = logging.getLogger("sockd.cli")


def serve(arguments: Sequence[str]) -> int:
    """Serve what inetd passed; every error goes to syslog, and to a terminal if there is one."""
    close_to_others()
    socket_activation.forget(os.environ)  # Accept=yes passes the connection a second time, as descriptor 3
    close_inherited()
    try:
        given = detach_standard_streams()
    finally:
        open_log(LogSettings())
    try:
        options = _parse_quietly(arguments)
        if not options.config:
            look_in(current_directory())
        settings = inetd_settings(_inetd_settings(options), options.inetd or "")
        with settings.located():
            inetd.run(settings, given)
    except SockdError as error:
        for line in str(error).splitlines():
            logger.error("not serving", extra={"event": {"error": line}})
        raise
    except Exception:
        logger.critical("internal error", exc_info=True)
        raise
    return EX_OK


def _parse_quietly(arguments: Sequence[str]) -> Options:
    words = io.StringIO()
    try:
        with redirect_stderr(words):
            options = read_plain(arguments) or sockd_parser.parse(arguments)
    except SystemExit as stop:
        raise UsageError(words.getvalue().rstrip().rpartition("\n")[2] or f"exit code {stop.code}") from None
    for name in ("listen", "foreground", "check", "show", "reload", "trace", "pidfile"):
        if getattr(options, name):
            option = "print" if name == "show" else name
            raise UsageError(f"--{option} cannot be used with --inetd, which serves what it inherits; remove it")
    return options


def _inetd_settings(options: Options) -> Settings:
    return from_command_line(
        base=_inetd_base(options.config) if options.config else None,
        multiplexer=options.multiplexer,
        log_level=options.log_level,
        log_format=options.log_format,
        user=options.user,
        group=options.group,
        chroot=options.chroot,
        inetd=options.inetd,
    )


def _inetd_base(path: str) -> Settings:
    return config_source.make_loader(path, config_source.keep_directory(path), listens=False)(None)


__all__ = ["serve"]
