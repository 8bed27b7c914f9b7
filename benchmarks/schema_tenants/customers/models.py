from django.db import models
from django_tenants.models import DomainMixin, TenantMixin


class Customer(TenantMixin):  # type: ignore[misc]
    name = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)


class Domain(DomainMixin):  # type: ignore[misc]
    pass
