"""Settings as in django-tenants' guide: https://django-tenants.readthedocs.io/en/latest/install.html"""

import os

import environ

from benchmarks.tenants.releases import migration_modules

DATABASES = {
    "default": {
        **environ.Env.db_url_config(os.environ.get("SCHEMA_TENANTS_URL", "postgresql://127.0.0.1/unset")),
        "ENGINE": "django_tenants.postgresql_backend",
    }
}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
SHARED_APPS = ["django_tenants", "benchmarks.schema_tenants.customers", "django.contrib.contenttypes"]
TENANT_APPS = ["tenants.identity", "audit", "prompts", "runs"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
TENANT_MODEL = "customers.Customer"
TENANT_DOMAIN_MODEL = "customers.Domain"
# The schema that tenants are cloned from if TENANT_CREATION_FAKES_MIGRATIONS is on.
TENANT_BASE_SCHEMA = "tenant_base"
# As many tenants at a time as the product's command migrates.
TENANT_MULTIPROCESSING_MAX_PROCESSES = 8
MIGRATION_MODULES = migration_modules()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "unused"
USE_TZ = True
