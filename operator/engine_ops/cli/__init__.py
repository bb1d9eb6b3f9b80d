"""The command line, `engine-ops`, also installed as the kubectl plugin `kubectl engine-ops`."""
