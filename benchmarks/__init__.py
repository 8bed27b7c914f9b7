"""How fast the product is, beside what others would use in its place. Prints ratios; `docs/benchmarks.md` explains them."""
