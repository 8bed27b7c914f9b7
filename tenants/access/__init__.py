"""Which tenants a member of staff may see."""
