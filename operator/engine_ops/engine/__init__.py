"""The engine: a problem in, a proven answer out. No Kubernetes, no I/O. One algorithm a file."""
