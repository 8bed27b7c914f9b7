"""A tenant's runs in the admin: their pages, their actions, what they cost."""
