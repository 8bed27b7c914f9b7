"""What surrounds each page of the admin: its tenant's color, search, error pages, the theme's own words."""
