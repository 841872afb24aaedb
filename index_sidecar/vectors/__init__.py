"""The index in this process: exact and approximate search with Faiss."""
