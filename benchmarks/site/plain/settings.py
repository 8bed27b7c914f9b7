"""Django's default admin, with the product's models and the same two databases."""

import os

import environ

from config.settings import *  # noqa: F403
from config.settings import DATABASES

PLAIN = {"CONN_MAX_AGE": None}
TENANT_URL = os.environ.get("PLAIN_TENANT_URL", "postgresql://127.0.0.1/unset")
DATABASES = {
    "default": {**DATABASES["default"], **PLAIN},
    "tenant": {
        **environ.Env.db_url_config(TENANT_URL),
        **PLAIN,
    },
}
DATABASE_ROUTERS = ["benchmarks.site.plain.router.Router"]
INSTALLED_APPS = [
    # Without discovery, because the product's own admin pages must not be imported.
    "django.contrib.admin.apps.SimpleAdminConfig",
    *("django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django.contrib.messages"),
    *("django.contrib.staticfiles", "tenants", "tenants.identity", "audit", "audit.control", "llm", "prompts", "runs"),
    "runs.summaries",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
ROOT_URLCONF = "benchmarks.site.plain.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
