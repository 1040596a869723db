"""The ground under `synthgen` and `segtrain`: what travels between them, written once. It imports neither."""
