"""Where carriers and their history live: an OCI layout folder, `.mlops/store` by default, with a log beside it."""
