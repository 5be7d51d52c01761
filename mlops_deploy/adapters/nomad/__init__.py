"""A Nomad cluster: jobs, allocations, variables and programs in tasks."""
