from typing import Any

from django.utils.translation import ngettext

from config.base.command import OperatorCommand
from tenants.lifecycle.rotate_keys import credentials_rotate


class Command(OperatorCommand):
    help = "Re-encrypt every stored credential with the first key of SEO_GEN_ENCRYPTION_KEYS."

    def perform(self, **options: Any) -> Any:
        return {"credentials": credentials_rotate()}

    def present(self, document: Any) -> None:
        message = ngettext(
            "%(credentials)d credential is encrypted with the first key.",
            "%(credentials)d credentials are encrypted with the first key.",
            document["credentials"],
        )
        self.stdout.write(message % document)
