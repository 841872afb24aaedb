"""From bytes to vectors and previews."""
