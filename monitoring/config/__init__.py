"""Acquire: the parts of `configuration`: files, layers, schema, rules, problems."""
