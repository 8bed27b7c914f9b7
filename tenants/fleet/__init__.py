"""Batches: change tenants' databases, all or none. Migrations are here; copies of prompts use parts of this."""
