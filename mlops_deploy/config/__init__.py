"""YAML text becomes a frozen spec: read, parse with positions, lay over, validate everything, build."""
