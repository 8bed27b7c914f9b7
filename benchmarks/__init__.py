"""Benchmarks that compare the product's speed with that of alternatives, as ratios; see `docs/benchmarks.md`."""
