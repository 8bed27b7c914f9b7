"""The control site. Tenants' sites are served by `tenants.middleware` from `config.urls_tenant`."""

from django.urls import path
from django.views.generic import RedirectView

from config.admin_sites import control_site

handler500 = "config.unavailable.server_error"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", control_site.urls),
]
