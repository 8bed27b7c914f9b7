"""A django-tenants project with the product's own tenant apps: the same tables, one schema per tenant.

Runs in a separate process (`python -m benchmarks.schema_tenants`) with its own settings.
"""
