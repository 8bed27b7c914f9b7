"""Whether this process loads the admin and what else serves pages: most of what Django would load.

All do, but for commands of ``seo-gen`` that have no use for it (`config.cli`). Imports no Django: it is asked by the
settings.
"""

# In the order of INSTALLED_APPS: the theme's templates replace the admin's, and WhiteNoise's runserver Django's.
APPS = (
    "unfold",
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
)
_left_out = False


def leave_out() -> None:
    """Have the settings of this process, and of no other that it starts, leave out these apps."""
    global _left_out  # noqa: PLW0603  (one process, one set of apps)
    _left_out = True


def installed() -> tuple[str, ...]:
    """Return these apps, none where they were left out."""
    return () if _left_out else APPS
