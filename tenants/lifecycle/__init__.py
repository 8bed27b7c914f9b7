"""Create and suspend tenants, show their status, rotate passwords, and prepare the control database."""
