"""Fleets of tenants for the tests of copies."""

from tests.tenants.conftest import empty_fleet, fifty

__all__ = ["empty_fleet", "fifty"]
