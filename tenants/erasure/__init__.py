"""Erasing tenants, the certificate of erasure, and verifying that erasures still hold."""
