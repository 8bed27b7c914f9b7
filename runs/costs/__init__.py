"""Keep what calls cost by day in the control database; compare, rebuild and read these costs."""
