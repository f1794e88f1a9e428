# SPDX-License-Identifier: MIT
"""Paths that are written relative to the configuration file: those of handlers, certificates and keys.

They are made absolute when the file is read, because a daemon changes its working directory, and a reload reads them
again. The paths that a daemon creates (pid file, log, sockets) and the programs that it executes must be absolute:
they do not depend on the place of the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd.values import replace

if TYPE_CHECKING:
    from sockd.settings import Settings
    from sockd.settings.tls import TlsSettings


def with_absolute_paths(settings: Settings, directory: str) -> Settings:
    """Return the settings with the paths of handlers and TLS files made absolute.

    Args:
        settings: as they were read; what is wrong in them stays as it is.
        directory: of the configuration file, absolute.
    """
    listeners = (
        replace(one, tls=_resolve_tls(one.tls, directory)) if one.tls is not None else one for one in settings.listen
    )
    path = settings.daemon.path
    daemon = replace(settings.daemon, path=os.path.normpath(os.path.join(directory, path))) if path else settings.daemon
    return replace(settings, daemon=daemon, listen=tuple(listeners))


def _resolve_tls(tls: TlsSettings, directory: str) -> TlsSettings:
    def absolute(path: str) -> str:
        return os.path.normpath(os.path.join(directory, path))

    return replace(
        tls,
        certificate=absolute(tls.certificate) if tls.certificate else tls.certificate,
        key=absolute(tls.key) if tls.key else tls.key,
        client_ca=absolute(tls.client_ca) if tls.client_ca else tls.client_ca,
        others=tuple(replace(one, path=absolute(one.path)) for one in tls.others),
    )


__all__ = ["with_absolute_paths"]
