"""URLs of the control site. `tenants.routing.middleware` serves tenants' sites from `config.urls_tenant`."""

from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView
from django.views.i18n import set_language

from config.site.frame.errors import FAVICON
from config.site.sites import control_site

handler400 = "config.site.frame.errors.bad_request"
handler403 = "config.site.frame.errors.forbidden"
handler404 = "config.site.frame.errors.not_found"
handler500 = "config.site.frame.errors.server_error"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("favicon.ico", RedirectView.as_view(url=static(FAVICON))),
    path("language/", set_language, name="set_language"),
    path("admin/", control_site.urls),
]
