"""What surrounds each page of the admin, and the rows of lists: the tenant's color, search, error pages, the theme's own words."""
