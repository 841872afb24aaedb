"""The durable truth on this machine: one SQLite file."""
