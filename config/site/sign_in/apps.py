from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SignInConfig(AppConfig):
    name = "config.site.sign_in"
    label = "sign_in"
    verbose_name = _("Sign-in")

    def ready(self) -> None:
        # Importing them registers the system checks and the signal receivers.
        from config.site.sign_in import checks, signals  # noqa: F401
