# SPDX-License-Identifier: MIT
"""This process and the system: signals, privileges, children, pid file, service manager.  No sockets of clients."""
