"""Start runs from forms and lists: find their inputs, estimate their cost, and start many at once."""
