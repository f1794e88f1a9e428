# SPDX-License-Identifier: MIT
"""Files and directories: who may write them, and how they are found again.  Opens files; knows no setting."""
