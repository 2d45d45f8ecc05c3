"""A report: one page of HTML about some runs or a study, which needs nothing else."""
