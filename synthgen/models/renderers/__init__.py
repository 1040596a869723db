"""Renderers, one backend a file."""
