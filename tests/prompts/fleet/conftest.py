"""Fleets of tenants, one of which has prompts to copy."""

from tests.tenants.conftest import empty_fleet, fifty

__all__ = ["empty_fleet", "fifty"]
