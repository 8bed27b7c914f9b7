"""The prices of models: their history, and the public price list."""
