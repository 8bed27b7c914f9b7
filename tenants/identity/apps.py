from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class IdentityConfig(AppConfig):
    name = "tenants.identity"
    label = "tenant_identity"
    verbose_name = _("Tenant identity")
