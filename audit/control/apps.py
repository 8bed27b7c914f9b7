from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ControlAuditConfig(AppConfig):
    name = "audit.control"
    label = "audit_control"
    verbose_name = _("Audit")
