"""Whether this process loads the admin, which takes longer than everything else that Django loads.

All do, but for commands of ``seo-gen`` that have no use for it (`config.cli`). Imports no Django: it is asked by the
settings.
"""

# In the order of INSTALLED_APPS: the theme's templates replace the admin's.
APPS = ("unfold", "django.contrib.admin")
_left_out = False


def leave_out() -> None:
    """Have the settings of this process, and of no other that it starts, leave out the admin."""
    global _left_out  # noqa: PLW0603  (one process, one set of apps)
    _left_out = True


def installed() -> tuple[str, ...]:
    """Return the admin's apps, none where they were left out."""
    return () if _left_out else APPS
