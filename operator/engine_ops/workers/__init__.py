"""Processes: a fork server, typed frames, limits, kill. Solves run in them, and so will plugins."""
