"""Audit log entries, the SQL that guards and chains them, their file format, and the archive of erased logs."""
