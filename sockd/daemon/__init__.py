# SPDX-License-Identifier: MIT
"""One serving process: start, listeners, reload, drain."""
