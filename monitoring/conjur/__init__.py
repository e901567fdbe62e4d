"""Acquire: the parts of `conjur`: health, variables, faults."""
