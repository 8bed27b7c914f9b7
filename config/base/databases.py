"""The databases of the settings."""

# The control database's alias. Tenants' databases have aliases of their own (`tenants.routing`).
CONTROL = "default"
