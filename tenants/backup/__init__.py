"""Back up one tenant: its dump, manifest and files."""
