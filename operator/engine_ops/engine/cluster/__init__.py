"""A live cluster as the engine sees it: compact records of nodes and pods, and the questions about them."""
