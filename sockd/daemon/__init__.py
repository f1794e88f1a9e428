# SPDX-License-Identifier: MIT
"""One serving process: start, listeners, reload, drain.  What it serves is in services; sockets are in net."""
