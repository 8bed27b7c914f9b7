"""What staff do all day, in a real browser."""
