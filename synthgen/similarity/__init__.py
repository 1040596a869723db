"""Cosines between many vectors: greedy near-duplicate removal, and k-means on the sphere."""
