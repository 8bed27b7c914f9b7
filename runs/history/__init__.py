"""Read past runs for prompts: how each version was used, and the values that a prompt was given."""
