"""The commands, by theme; synthgen.cli puts them together."""
