"""Segmentation networks that travel as model folders. A file is a kind of network: `build` makes it.

`sam` is no segmenter: it is asked for masks.
"""
