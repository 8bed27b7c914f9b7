"""Decide whether this process loads the admin and the other web apps, which are most of what Django loads.

Every process does, except ``seo-gen`` commands that do not need them (`config.cli`). Does not import Django, since the
settings import this module.
"""

# In the order of INSTALLED_APPS: the theme's templates override the admin's, and WhiteNoise's runserver Django's.
APPS = (
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
)
_left_out = False


def leave_out() -> None:
    """Make the settings of this process leave out these apps; programs that it starts are not affected."""
    global _left_out  # noqa: PLW0603  (one process, one set of apps)
    _left_out = True


def installed() -> tuple[str, ...]:
    """Return these apps; empty if they were left out."""
    return () if _left_out else APPS
