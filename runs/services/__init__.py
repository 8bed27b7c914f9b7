"""Create, change and read runs."""
