"""Benchmarks that compare the product with alternatives, mostly as ratios of times; see `docs/benchmarks.md`."""
