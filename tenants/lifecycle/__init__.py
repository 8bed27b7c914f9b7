"""Create and suspend tenants, show their status, set limits, rotate passwords, and prepare the control database."""
