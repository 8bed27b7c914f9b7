"""Operations on runs, one per module."""
