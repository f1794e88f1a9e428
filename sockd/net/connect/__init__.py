# SPDX-License-Identifier: MIT
"""Connecting out: names, races, dialling."""
