"""Labelled images: where they lie, how they are mixed, cropped and batched."""
