"""Hostile peers: real servers of the sandbox behind proxies that spoil what they say, each move
drawn from a seed.

`moves` changes one answer (RESP, HTTP, SMTP) along its structure; `peers` are the proxies, and
`scrapers` those who ask us; `nursery` runs the scripts, forked from one process that has imported
them; `play` is one seed from end to end and what must hold.
"""
