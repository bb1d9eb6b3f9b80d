"""What happened is remembered: data points, their codec, the collector, stores, outcomes."""
