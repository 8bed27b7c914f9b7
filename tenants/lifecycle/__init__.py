"""From creation to suspension: creating tenants, their status, their passwords, and preparing the control database."""
