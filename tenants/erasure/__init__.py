"""Deleting a tenant for good, the certificate, and verifying that it is still gone."""
