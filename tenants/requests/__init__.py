"""Operations that staff request in the admin: recorded, carried out by a worker, recovered after a crash."""
