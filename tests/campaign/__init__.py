"""The campaign: load, faults and attacks against a sidecar, and a model of what it must answer afterwards."""
