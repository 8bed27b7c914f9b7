"""What a tenant's database should look like, what it does look like, and how migrations change it."""
