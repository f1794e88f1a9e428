"""Connecting out: names, races, dialling."""
