"""Acquire: one module per component that `probes` asks."""
