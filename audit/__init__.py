"""Append-only, hash-chained audit logs: one in every tenant's database, and one in the control database."""
