"""The product's settings in a later release (`benchmarks.releases`)."""

from benchmarks.releases import migration_modules
from config.settings import *  # noqa: F403

MIGRATION_MODULES = migration_modules()
