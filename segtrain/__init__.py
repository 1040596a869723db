"""Trains and judges segmenters on finished datasets. Knows the shard format and nothing of who wrote the shards."""
