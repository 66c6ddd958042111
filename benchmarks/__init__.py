"""Benchmarks: one command each, ``python -m benchmarks.NAME``; ``python -m benchmarks`` runs all."""
