"""Accepting: listeners, admission, PROXY headers, overload."""
