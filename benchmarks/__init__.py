"""How fast the product is compared with alternatives, as ratios; see `docs/benchmarks.md`."""
