"""The command `clip-archive`."""
