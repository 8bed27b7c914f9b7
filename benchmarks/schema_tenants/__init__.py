"""A django-tenants project with the product's own tenant apps: the same tables, one schema per tenant.

Runs in a process of its own (`python -m benchmarks.schema_tenants`), with settings of its own.
"""
