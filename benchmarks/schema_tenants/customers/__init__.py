"""The shared app that django-tenants requires: the list of tenants."""
