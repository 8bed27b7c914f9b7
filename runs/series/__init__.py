"""Start runs from forms and lists: the inputs that they need, what they will cost, and many of them at once."""
