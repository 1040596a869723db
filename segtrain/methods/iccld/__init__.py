"""Segmentation as latent diffusion, adapted to a domain without labels (ICCLD, arXiv 2412.16859), as far as known."""

COMMANDS = {"iccld": "Config"}
