"""What `seo-gen` does around a command: which there are, their usage, refusals, and completion."""
