"""Faults of the pipeline: DVC's files, results and notebooks that were edited, two at once."""
