"""Create and suspend tenants, open them to operators and staff, show their status, set limits and budgets.

Also rotate passwords and keys, and prepare the control database and the servers.
"""
