"""Two people for what cannot be undone: request, decide, use once."""
