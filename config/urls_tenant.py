"""One tenant's site, below /t/<id>/ (see `tenants.middleware`)."""

from django.urls import path

from config.admin_sites import tenant_site

urlpatterns = [path("admin/", tenant_site.urls)]
