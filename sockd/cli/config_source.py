# SPDX-License-Identifier: MIT
"""Where the settings of a run come from: a file, the command line, the built-in example."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sockd.config.command_line import from_command_line
from sockd.config.include import included_paths
from sockd.config.load import LOCAL_FILE, MAX_FILE_BYTES, find, load, loads
from sockd.errors import ConfigurationError, fault
from sockd.files.kept_directory import KeptDirectory, current_directory
from sockd.lazy import pathlib, tempfile
from sockd.services.handlers_path import current, look_in
from sockd.settings import Settings
from sockd.settings.address import Address, known_services
from sockd.settings.listen import ListenSettings
from sockd.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sockd.cli.options import Options
    from sockd.settings.address import Services


logger = logging.getLogger("sockd.cli")


EXAMPLE = "the built-in example"


EXAMPLE_ADDRESS = "127.0.0.1:7007"


CONTROL_SOCKET = "control.sock"


def source_files(settings: Settings, source: str) -> Iterator[str]:
    """Yield what to watch besides the imported modules: a handler's file counts before it exists."""
    names = [listen.service for listen in settings.listen]
    names += [table.handler for table in settings.service.values() if table.handler]
    modules = {name.partition(":")[0] for name in names if ":" in name}
    directory, _ = current()
    yield from configuration_files(source)
    yield from (os.path.join(directory, name.replace(".", os.sep) + ".py") for name in modules)


def configuration_files(source: str) -> Iterator[str]:
    """Yield a configuration, the files that it includes, and the patterns of those that it will include."""
    yield source
    yield from included_paths(source, MAX_FILE_BYTES)


@dataclass(frozen=True)
class Source:
    """Settings, and where they came from; `check` reads them again, `parse` a text with its name and its variables.

    `file` is the absolute path of that file.  These are None where there is not a file.
    """

    settings: Settings
    name: str
    file: str | None
    check: Callable[[], Settings] | None
    parse: Callable[[str, str, Mapping[str, str]], Settings] | None


def read_source(options: Options) -> Source:
    """Read the settings of a run; those of the command line override those of its file.

    Raises:
        ConfigurationError, PermissionFault: as sockd.config.load.load(); the directory of the file cannot be opened.
        UsageError: an option is wrong.
    """
    path = str(pathlib.Path(options.config)) if options.config else None
    if path is None and not options.listen:
        path = find()
    directory = keep_directory(path) if path else None
    if directory is None:
        look_in(current_directory())
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # now: handlers may change the environment
    read = make_loader(path, directory) if path and directory else None
    base = read(None) if read else Settings() if options.listen else _example()

    def over(base: Settings, services: Services | None) -> Settings:
        settings = from_command_line(
            options.listen,
            base=base,
            multiplexer=options.multiplexer,
            log_level=options.log_level,
            log_format=options.log_format,
            user=options.user,
            group=options.group,
            chroot=options.chroot,
            pidfile=options.pidfile,
            services=services,
        )
        return _with_control(settings, runtime)

    settings = over(base, None)
    services = known_services() if settings.daemon.chroot else None
    name = path if path else "the command line" if options.listen else EXAMPLE
    if name == EXAMPLE and os.path.lexists(LOCAL_FILE):  # it was not found: this is root
        name = f"{EXAMPLE} (root reads ./{LOCAL_FILE} only if it is named: -c {LOCAL_FILE})"
    if read is None or directory is None:
        return Source(settings, name, None, None, None)

    def again() -> Settings:
        if settings.daemon.chroot is None and (why := directory.renew()):
            logger.warning(
                "configuration directory no longer at its path, reading from the old one", extra={"event": {"why": why}}
            )
        return over(read(services), services)

    def parse(text: str, name: str, environment: Mapping[str, str]) -> Settings:
        opener, path = directory.open, directory.path
        read = loads(text, name=name, services=services, directory=path, opener=opener, environment=environment)
        return over(read, services)

    file = os.path.join(directory.path, os.path.basename(name))
    return Source(settings, name, file, again, parse)


def keep_directory(path: str) -> KeptDirectory:
    """Return the directory of a configuration, kept open; handlers are imported from it, too."""
    try:
        directory = KeptDirectory(str((current_directory() or os.sep) / pathlib.Path(path).parent))
    except OSError as error:
        raise ConfigurationError(str(fault(error, path))) from None
    directory.allow(os.path.basename(path))
    look_in(directory.path)
    return directory


def make_loader(path: str, directory: KeptDirectory, *, listens: bool = True) -> Callable[[Services | None], Settings]:
    """Return a function that reads the file, now and after chroot(2) and chdir(2)."""

    def opener(wanted: str, flags: int) -> int:
        name = os.path.basename(path) if wanted == path else wanted
        directory.allow(name)  # an included file, too, is read again after chroot(2)
        return directory.open(name, flags)

    return lambda services: load(path, services=services, opener=opener, listens=listens, directory=directory.path)


def _with_control(settings: Settings, directory: str) -> Settings:
    """Add the control socket, where a service manager made a directory (RuntimeDirectory=, systemd.exec(5))."""
    if not directory or settings.daemon.control is not None:
        return settings
    return replace(settings, daemon=replace(settings.daemon, control=os.path.join(directory, CONTROL_SOCKET)))


def _example() -> Settings:
    directory = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    texts = (f"tcp://{EXAMPLE_ADDRESS}", f"udp://{EXAMPLE_ADDRESS}", f"unix:{directory}/sockd-example.sock")
    listen = ListenSettings(addresses=tuple(map(Address.parse, texts)), service="upper")
    return Settings(listen=(listen,), find_place=lambda key: (EXAMPLE, () if key[0] == "listen" else key))


__all__ = [
    "EXAMPLE",
    "EXAMPLE_ADDRESS",
    "Source",
    "configuration_files",
    "keep_directory",
    "make_loader",
    "read_source",
    "source_files",
]
