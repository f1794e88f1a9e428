# SPDX-License-Identifier: MIT
"""`sockctl plan`: a configuration goes to the daemon to be compared; its handlers are imported here.

An import runs code, which a query must not do in a daemon.  What the import depends on is the daemon's, and it says so
in its reply: its variables, the place of its configuration, and its user.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.config.load import MAX_FILE_BYTES, loads
from sockd.daemon import plan as plans
from sockd.errors import EX_OK, ConfigurationError
from sockd.files import trusted
from sockd.services.handlers_path import look_in
from sockd.values import replace
from sockd.wire.control import as_object

if TYPE_CHECKING:
    import argparse

    from sockd.settings import DaemonSettings
    from sockd.wire.control import ControlRequest, JsonObject


def read_words(arguments: argparse.Namespace) -> JsonObject:
    """Return the text of the file, and its name.

    Raises:
        SockdError: it cannot be read.
    """
    file = arguments.file
    try:
        return {"text": trusted.read(file, file, MAX_FILE_BYTES + 1).decode(), "name": file}
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: not UTF-8: {error}") from None


def complete(_arguments: argparse.Namespace, request: ControlRequest, result: object) -> tuple[object, int]:
    """Import the handlers as the daemon would; return what to print, and the exit code.

    Raises:
        ConfigurationError: one cannot be imported, or is none.
    """
    changes = as_object(result)
    daemon = as_object(changes.pop("daemon"))
    _import_handlers(request.words["text"], request.words["name"], daemon)
    return changes, ConfigurationError.exit_code if changes["impossible"] else EX_OK


def _import_handlers(text: str, file: str, daemon: JsonObject) -> None:
    """Look for them where the daemon would, once the file has the place of its own one, and by its variables."""
    directory = os.path.dirname(daemon["configuration"] or os.path.abspath(file))
    look_in(directory)
    settings = loads(text, name=file, directory=directory, environment=daemon["environment"])
    if settings.daemon.user is None:
        settings = replace(settings, daemon=_as_started(settings.daemon, daemon["uid"], daemon["gid"]))
    with settings.located():
        plans.plan(settings)


def _as_started(settings: DaemonSettings, uid: int, gid: int) -> DaemonSettings:
    """Name the user that a daemon was started as, such as User= of a unit: its programs are not those of this user."""
    return settings if uid == os.geteuid() else replace(settings, user=str(uid), group=str(gid))


__all__ = ["complete", "read_words"]
