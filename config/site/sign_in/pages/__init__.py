"""The control site's pages for logging in, one's own account, and other people's sign-ins."""
