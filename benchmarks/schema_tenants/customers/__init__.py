"""The shared app that django-tenants wants: who the tenants are."""
