"""Log in as a browser does, and read what the page and the audit log say."""

from __future__ import annotations

import time
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from django.contrib.auth.models import User
from django.test import Client

from audit.control.models import ControlAuditLog
from config.site.sign_in.second_factor import STEP_S, factor_enrol, new_secret
from tests.support.staff import PASSWORD

LOGIN = "/admin/login/"


def log_in(client: Client, username: str, password: str = PASSWORD, *, address: str = "192.0.2.1", **more: str) -> Any:
    return client.post(LOGIN, {"username": username, "password": password, **more}, REMOTE_ADDR=address)


def is_logged_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def alerts(response: Any) -> list[str]:
    """Return the form's errors that belong to no single field."""
    return list(response.context["form"].non_field_errors())


def entries(user: User | None = None, *, resource_id: str = "") -> list[ControlAuditLog]:
    """Return the control log's entries about a user or about `resource_id`, oldest first."""
    found = ControlAuditLog.objects.filter(resource_id=resource_id or str(user.pk if user else ""))
    if user:
        # Entries about something else may have the same number.
        found = found.filter(resource_type="user")
    return list(found.order_by("sequence"))


def actions(user: User) -> list[str]:
    return [entry.action for entry in entries(user)]


def code_of(secret: str, *, steps: int = 0) -> str:
    """Return the code that an authenticator app shows `steps` time steps from now."""
    import base64

    totp = TOTP(base64.b32decode(secret), 6, SHA1(), STEP_S)
    return totp.generate(int(time.time()) + steps * STEP_S).decode()


def enrol(user: User) -> tuple[str, list[str]]:
    """Give `user` a second factor; return its secret and the recovery codes."""
    secret = new_secret()
    # The code of the step before, so that the current one can still be used.
    return secret, factor_enrol(user=user, secret=secret, code=code_of(secret, steps=-1)).recovery_codes
