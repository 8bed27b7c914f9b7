"""Each measured table in a `ModelAdmin` with columns like those that the product's page shows."""

from django.contrib import admin
from django.urls import path

from audit.control.models import ControlAuditLog
from audit.models import AuditLog
from runs.models import Artifact, Run, RunCost, Step
from tenants.models import Tenant

COLUMNS = {
    Tenant: ("id", "name", "status", "server", "created_at"),
    ControlAuditLog: ("created_at", "user_id", "action", "resource_type", "resource_id", "sequence"),
    Run: ("id", "status", "current_step", "config", "created_at", "updated_at"),
    Step: ("step", "run", "status", "llm_model", "retry_count", "started_at", "completed_at"),
    Artifact: ("file_path", "step", "run", "file_type", "created_at"),
    RunCost: ("run", "total_input_tokens", "total_output_tokens", "total_llm_cost"),
    AuditLog: ("created_at", "user_id", "action", "resource_type", "resource_id", "sequence"),
}
ORDER = {Run: ("-created_at",), Step: ("-id",), Artifact: ("-id",), RunCost: ("-run__created_at",)}

site = admin.AdminSite()
for model, columns in COLUMNS.items():
    options = {"list_display": columns, "ordering": ORDER.get(model)}
    site.register(model, type(f"{model.__name__}Admin", (admin.ModelAdmin,), options))
urlpatterns = [path("admin/", site.urls)]
