"""What can be done with tenants: one operation, one module."""
