# SPDX-License-Identifier: MIT
"""inetd.conf and xinetd.conf -> sockd.toml, and the names of what has no equivalent.

Rules: text in, text out; only sockd.importer.files opens anything, and only to read.  What a
line asks for is kept, or it is named with its file and line: on standard error, and as a
comment where it belongs in the result.  A service whose clients could not be kept as few as
they were, or that sockd would not accept, is written as a comment and not left open.
"""

from sockd.importer.convert import Conversion, convert
from sockd.importer.files import FORMATS, access_rule, read

__all__ = ["FORMATS", "Conversion", "access_rule", "convert", "read"]
