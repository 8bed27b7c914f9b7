"""Copy versions of prompts to all tenants or none."""
