"""The pages of signing in, in the look of the control site."""
