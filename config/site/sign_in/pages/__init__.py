"""The pages for signing in, which look like the control site."""
