"""Acquire: the counters of Payment-EAPI and Payment-SAPI, and what they say."""
