"""Present runs in commands and on pages: tables and sentences, progress, articles and comparisons."""
