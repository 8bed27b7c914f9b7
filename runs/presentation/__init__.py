"""Present runs in commands: tables and sentences on stdout, progress on stderr."""
