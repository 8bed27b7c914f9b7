"""The control site's pages for logging in, for one's own account, and for how other staff log in."""
