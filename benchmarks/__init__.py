"""Benchmarks of Podium against what a user would run instead; see README.md. Not installed."""
