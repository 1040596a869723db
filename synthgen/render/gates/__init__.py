"""What an image must show before it is kept. A gate is a file."""
