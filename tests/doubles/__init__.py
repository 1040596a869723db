"""A tiny world and a tiny backend for every role, found by dotted name as somebody's own backends are
(`doubles.painter`).

They need no weights and no torch, so that a whole run takes a second and a test can kill one, count its calls or feed
it rubbish.
"""
