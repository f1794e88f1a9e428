"""Pairs of connections whose bytes pass through."""
