"""Coarse-mask proposers, one backend a file."""
