"""Export, import and clone tenants."""
