"""Image-text scorers, one backend a file."""
