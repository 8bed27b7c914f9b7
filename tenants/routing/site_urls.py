"""URLs of the two sites: the control site at /admin/, and each tenant's own at /t/<id>/admin/.

The tenant is in the URL, never in the session, so two browser tabs on two tenants cannot mix. In a request to a
tenant's site, "/t/<id>/" is part of the script prefix, so every `reverse()` stays with that tenant.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.urls import get_script_prefix, reverse, set_script_prefix

from tenants.naming import ID_PATTERN

TENANT_URLCONF = "config.urls_tenant"
_ID = ID_PATTERN.strip("^$")
_TENANT_PATH = re.compile(rf"/t/(?P<tenant_id>{_ID})(?P<rest>/.*)?", re.DOTALL)
_TENANT_PREFIX = re.compile(rf"t/{_ID}/$")


def split_path(path: str) -> tuple[str, str] | None:
    """Return (tenant id, path on its site) if the path leads to a tenant's site, otherwise None."""
    match = _TENANT_PATH.fullmatch(path)
    return (match["tenant_id"], match["rest"] or "") if match else None


def control_url(name: str, *args: object) -> str:
    """Return the URL called `name` on the control site; works in requests to either site."""
    with script_prefix(_base()):
        return reverse(name, urlconf=settings.ROOT_URLCONF, args=args)


def tenant_url(tenant_id: str, name: str, *args: object) -> str:
    """Return the URL called `name` on the tenant's site; works in requests to either site."""
    with script_prefix(tenant_prefix(tenant_id)):
        return reverse(name, urlconf=TENANT_URLCONF, args=args)


def tenant_prefix(tenant_id: str) -> str:
    return f"{_base()}t/{tenant_id}/"


@contextmanager
def script_prefix(prefix: str) -> Iterator[None]:
    """Make `reverse()` start with `prefix` inside the block."""
    previous = get_script_prefix()
    set_script_prefix(prefix)
    try:
        yield
    finally:
        set_script_prefix(previous)


def _base() -> str:
    """Return the prefix under which the whole project is served."""
    return _TENANT_PREFIX.sub("", get_script_prefix())
