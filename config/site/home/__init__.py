"""The first page of each site: what needs attention, and what was spent."""
