"""One tenant's site, below /t/<id>/ (see `tenants.middleware`)."""

from django.urls import path

from config.admin_sites import tenant_site

handler500 = "config.unavailable.server_error"
urlpatterns = [path("admin/", tenant_site.urls)]
