"""What the history costs, and what can be learned of it."""
