# SPDX-License-Identifier: MIT
"""Two commands, their verbs, and what they print: argv in, exit code out."""
