"""Scores of masks against masks: plain arrays in, numbers out. A score of nothing is None, never 0 and never 1."""
