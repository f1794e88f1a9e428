# SPDX-License-Identifier: MIT
"""The table of connections and what each of them is."""
