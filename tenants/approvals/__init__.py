"""Approvals of operations by a second person: request one, decide it, use it once."""
