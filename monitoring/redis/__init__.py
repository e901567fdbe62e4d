"""Acquire: how the cache is reached (`redis_client`) and how its keys are read."""
