"""Samples to shards, index and card."""
