"""Imported once by the process that tests fork from (tests/support/forked.py)."""

import django

django.setup()

from django.db import connections  # noqa: E402

# What is killed, and so all that it works with.
import tenants.transfer.export  # noqa: E402
import tenants.transfer.import_  # noqa: E402
import tenants.unfinished  # noqa: E402, F401

# A child must not speak through its parent's.
assert all(connection.connection is None for connection in connections.all(initialized_only=True))
