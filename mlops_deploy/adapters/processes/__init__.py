"""The target `process`: local processes and a local HAProxy, no container engine."""
