"""Audit entries, the SQL that guards and chains them, their file format, and the archived logs."""
