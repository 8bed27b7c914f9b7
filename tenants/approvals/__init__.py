"""Approvals by a second person for what cannot be undone: request one, decide it, use it once."""
