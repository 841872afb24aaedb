"""Contents on a Qdrant cluster."""
