"""Models that come with the engine."""
