"""Fallbacks: move a waiting step to another model if its own cannot be called."""
