"""The pages of the admin, compared with plain Django's."""
