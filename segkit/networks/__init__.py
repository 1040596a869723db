"""Segmentation networks that travel as model folders. A file is a kind of network: `build` makes it."""
