"""How the sidecar is watched: metrics for Prometheus."""
