"""Test the run engine while everything goes wrong at the same time, in an installation of its own.

`python -m tests.runs.chaos` starts servers, workers and beat, has people create runs, act on them and suspend tenants,
lets a paid provider fail, and kills or freezes processes. Then it resumes everything, waits until every run has ended,
and compares the databases, the files and the provider's ledger. It prints a report, and exits with 1 if anything
disagrees.
"""
