"""Admin pages for providers, models with their prices, and the pipeline."""
