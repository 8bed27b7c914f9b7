"""Imported once by the process that tests fork from (tests/support/forked.py)."""

import django

django.setup()

from django.db import connections  # noqa: E402

import tenants.services  # noqa: E402, F401

# A child must not speak through its parent's.
assert all(connection.connection is None for connection in connections.all(initialized_only=True))
