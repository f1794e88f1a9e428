# SPDX-License-Identifier: MIT
"""inetd.conf and xinetd.conf -> sockd.toml, and a report of settings without an equivalent.

Rules: text in, text out; only sockd.importer.files opens files, and only to read.  Each setting is kept, or reported
with its file and line: on standard error, and as a comment in the result.  A service whose access rules could not be
kept, or that sockd would not accept, is written as a comment and not left open.
"""

from sockd.importer.convert import Conversion, convert
from sockd.importer.files import FORMATS, access_rule, read

__all__ = ["FORMATS", "Conversion", "access_rule", "convert", "read"]
