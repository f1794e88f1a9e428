"""Addresses: their text, their sockaddr."""
