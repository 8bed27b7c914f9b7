"""Task names, so that services can send tasks without importing them."""

EXECUTE_STEP = "runs.execute_step"
SWEEP = "runs.sweep"
COMPARE_COSTS = "runs.compare_costs"
