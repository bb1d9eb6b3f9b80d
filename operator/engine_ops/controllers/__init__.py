"""kopf handlers, one file a kind, and the reconciling behind them. kopf is imported in this room only."""
