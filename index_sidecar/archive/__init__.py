"""The domain: what there is, what can go wrong, what can be asked. No HTTP, SQL, Faiss or Qdrant."""
