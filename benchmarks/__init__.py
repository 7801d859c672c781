"""Benchmarks: one file a question; how to run them is in benchmarks/README.md."""
