"""Sign-in through the company's OpenID Connect provider: the code flow with PKCE, state and nonce."""
