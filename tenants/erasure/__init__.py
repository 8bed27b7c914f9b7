"""Erase tenants, certify erasures, and verify that they still hold."""
