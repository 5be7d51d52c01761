"""The command line: one file per command; `wiring` alone imports adapters; start-up loads click alone."""
