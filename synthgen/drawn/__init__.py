"""Drawn worlds: images with exact masks and captions."""
