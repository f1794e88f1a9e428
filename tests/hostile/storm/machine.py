# SPDX-License-Identifier: MIT
"""The network and the processes of a storm: a namespace of its own where that can be had, and its orphans."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

CLONE_NEWNET = 0x40000000
PR_SET_CHILD_SUBREAPER = 36
LINK_LOCAL = "fe80::1/64"


def become_reaper() -> None:
    """Have what the daemon leaves behind, as the process of an upgrade, be a child of ours (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def leave_network() -> str:
    """Go into a network of our own, whose loopback has a link-local address.

    Returns:
        That interface; empty where it cannot be had, and all goes on in the network that is there.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None or ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        return ""
    for words in (["link", "set", "lo", "up"], ["address", "add", LINK_LOCAL, "dev", "lo"]):
        if subprocess.run(["ip", *words], capture_output=True).returncode:
            return ""
    return "lo"
