"""Decision: what the token census counts, finds and reports; its sources beside it."""
