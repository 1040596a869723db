"""Dense feature extractors, one backend a file."""
