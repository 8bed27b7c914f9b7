"""Copy versions of prompts to several tenants, all or nothing."""
