"""Text encoders, one backend a file."""
