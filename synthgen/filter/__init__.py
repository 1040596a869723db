"""Scores and rules: what is kept and why not."""
