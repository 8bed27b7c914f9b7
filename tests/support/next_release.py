"""The settings of a later release: the product's, with further migrations (tests/support/releases.py)."""

import os
import sys

from config.settings import *  # noqa: F403

sys.path.insert(0, os.environ["NEXT_RELEASE_FOLDER"])
MIGRATION_MODULES = {os.environ["NEXT_RELEASE_APP"]: os.environ["NEXT_RELEASE_PACKAGE"]}
