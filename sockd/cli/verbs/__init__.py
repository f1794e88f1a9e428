# SPDX-License-Identifier: MIT
"""The verbs of sockctl and of sockd, one module each."""

PROGRAM = "sockctl"
PASSWORD_VARIABLE = "SOCKD_VIA_PASSWORD"  # noqa: S105 - the name of one
IMPORT_FORMATS = ("auto", "openbsd", "inetutils", "bsd", "xinetd", "tcpserver", "systemd")
"""Those of sockd.importer, which a test holds to it."""

__all__ = ["IMPORT_FORMATS", "PASSWORD_VARIABLE", "PROGRAM"]
