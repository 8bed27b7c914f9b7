"""The product's settings in a later release (`benchmarks.tenants.releases`)."""

from benchmarks.tenants.releases import migration_modules
from config.settings import *  # noqa: F403

MIGRATION_MODULES = migration_modules()
