"""Keep: the state file, what is recorded in it, and where a lookback is read from."""
