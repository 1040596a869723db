"""Promptable mask decoders, one backend a file."""
