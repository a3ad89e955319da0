"""Benchmarks. They assert nothing. ``make bench`` runs all of them and rewrites docs/benchmarks.md."""
