"""Present: the ways a cycle's Outcome is shown: JSON, tables, metrics, logs and pages."""
