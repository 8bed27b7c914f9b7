"""How fast the product is beside what others use in its place: ratios, which `docs/benchmarks.md` explains."""
