"""Backing up one tenant: dump, manifest, files."""
