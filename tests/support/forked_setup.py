"""Set up Django in the process that tests fork from (tests/support/forked.py), and import what their forks use."""

import django

django.setup()

from django.db import connections  # noqa: E402

# The operations that tests kill, and with them everything that they use.
import tenants.transfer.export  # noqa: E402
import tenants.transfer.import_  # noqa: E402
import tenants.unfinished  # noqa: E402, F401

# A child must not use its parent's connections.
assert all(connection.connection is None for connection in connections.all(initialized_only=True))
