"""Decision: the parts of `anomalies`: profiles, views, clock, words."""
