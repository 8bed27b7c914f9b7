"""The control database's own audit log: the same columns and guards as a tenant's."""
