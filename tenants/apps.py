from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TenantsConfig(AppConfig):
    name = "tenants"
    verbose_name = _("Tenants")

    def ready(self) -> None:
        from config.base import approvals
        from tenants import checks  # noqa: F401  (registers the system checks)

        approvals.register(
            use="tenants.approvals.use.approval_use", request="tenants.approvals.decide.approval_request"
        )
