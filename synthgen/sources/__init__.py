"""Labelled and unlabelled inputs, one file each layout."""
