"""The contract over HTTP: paths, parameters, bodies, answers."""
