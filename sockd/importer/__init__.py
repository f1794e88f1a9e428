# SPDX-License-Identifier: MIT
"""The files of inetd, xinetd, tcpserver and of systemd's sockets -> sockd.toml, and what has no equivalent.

Rules: text in, text out; only sockd.importer.files opens files, and only to read.  Each setting is kept, or reported
with its file and line: on standard error, and as a comment in the result.  A service whose access rules could not be
kept, or that sockd would not accept, is written as a comment and not left open.
"""

from sockd.importer.convert import Conversion, convert
from sockd.importer.files import FORMATS, access_rule, read

__all__ = ["FORMATS", "Conversion", "access_rule", "convert", "read"]
