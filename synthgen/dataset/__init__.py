"""Reads and checks a finished dataset."""
