"""Acquire: the parts of `http_client`: sockets, TLS, names, replies."""
