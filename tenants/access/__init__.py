"""What each role may do, and which tenants and permissions a member of staff has."""
