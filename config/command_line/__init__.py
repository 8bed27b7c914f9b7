"""What `seo-gen` does around a command: usage checks, error output, completion and the error reference."""
