"""How staff sign in: throttled passwords, a second factor, OpenID Connect, and sessions that can be ended."""
