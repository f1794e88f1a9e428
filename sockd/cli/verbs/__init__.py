# SPDX-License-Identifier: MIT
"""The verbs of sockctl and of sockd, one module each."""
