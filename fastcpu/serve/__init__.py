"""Serving models over a network."""
