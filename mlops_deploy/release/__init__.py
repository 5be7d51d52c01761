"""Releases: the state, the steps, the plan, one module per strategy, and the executor. Pure: no clock, no I/O."""
