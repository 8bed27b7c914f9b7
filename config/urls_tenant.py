"""URLs of a tenant's site, below /t/<id>/ (see `tenants.routing.middleware`)."""

from django.urls import path

from config.site.sites import tenant_site

handler500 = "config.site.unavailable.server_error"
urlpatterns = [path("admin/", tenant_site.urls)]
