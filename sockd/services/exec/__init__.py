# SPDX-License-Identifier: MIT
"""A program per connection."""
