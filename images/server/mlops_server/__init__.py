"""A prediction server for one model: our loader around the KServe SDK."""
