"""The plugin host: forks, watches and kills the processes of plugins. And the operator's hold on it."""
