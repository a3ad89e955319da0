"""Pipelines: sources, jobs, drift, operations, challenges, and the `vigil` command."""
