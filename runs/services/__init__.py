"""What can be done with runs: one operation, one module."""
