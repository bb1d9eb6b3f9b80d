"""The REST API: HTTP in, the same engine, registry, workers, limits and history as a resource has behind it."""
