"""What surrounds each page of the admin, and the rows of lists: a tenant's color, search, error pages, theme."""
