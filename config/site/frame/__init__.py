"""What surrounds each page of the admin: its tenant's colour, search, error pages, the theme's own words."""
