"""Self-training on unlabelled pictures: what the methods that do it share. A method adds its own pseudo-labels."""
