"""The target `docker`: Compose starts and stops, the engine itself is asked how things are."""
