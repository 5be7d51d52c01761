"""One outside world per module. Adapters translate foreign errors into ours at the boundary."""
