# SPDX-License-Identifier: MIT
"""The client side of a socket: sockctl connect.  No part of the daemon."""
