"""The control database's own audit log: the same shape and the same guards as a tenant's."""
