"""URLs of a tenant's site, below /t/<id>/ (see `tenants.routing.middleware`)."""

from django.urls import path

from config.site.sites import tenant_site

handler400 = "config.site.frame.errors.bad_request"
handler403 = "config.site.frame.errors.forbidden"
handler404 = "config.site.frame.errors.not_found"
handler500 = "config.site.frame.errors.server_error"
urlpatterns = [path("admin/", tenant_site.urls)]
