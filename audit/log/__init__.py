"""The log itself: its entries, the SQL that guards and chains them, their form in files, the logs of erased tenants."""
