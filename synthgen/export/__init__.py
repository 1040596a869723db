"""A finished dataset in the layouts of other tools."""
