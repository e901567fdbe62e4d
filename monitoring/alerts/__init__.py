"""Decision: the parts of `alerts`: advice, grouping, hysteresis, messages, delivery."""
