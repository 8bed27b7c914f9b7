"""The worker's database backend for the control database."""
