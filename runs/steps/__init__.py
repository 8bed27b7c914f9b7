"""Execute steps in a worker (claim, call, store), and find steps that have no worker."""
