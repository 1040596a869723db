"""What is rendered: maps as they are, or with something pasted into them. A way is a file."""
