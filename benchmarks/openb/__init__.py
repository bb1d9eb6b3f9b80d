"""A real GPU cluster turned into requests, and the answers checked against the recorded nodes and pods."""
