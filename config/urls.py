"""URLs of the control site. `tenants.routing.middleware` serves tenants' sites from `config.urls_tenant`."""

from django.urls import path
from django.views.generic import RedirectView

from config.site.sites import control_site

handler500 = "config.site.unavailable.server_error"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", control_site.urls),
]
