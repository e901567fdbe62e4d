"""Present: service levels read from history and written as a report."""
