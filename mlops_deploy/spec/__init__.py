"""The frozen vocabulary: what a model, a server, a service and a reference are. No I/O."""
