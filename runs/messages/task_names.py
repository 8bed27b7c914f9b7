"""The names by which tasks are sent, so that services need not import them."""

EXECUTE_STEP = "runs.execute_step"
SWEEP = "runs.sweep"
