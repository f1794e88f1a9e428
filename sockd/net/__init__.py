"""Sockets and readiness."""
