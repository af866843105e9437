"""Reports: what was measured, on which machine, as a table, as JSON and as a page that needs nothing else."""
