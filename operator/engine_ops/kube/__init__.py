"""The only room that imports a Kubernetes client: connection, status writer, events, ConfigMaps, lease."""
