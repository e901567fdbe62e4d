"""Where accepted tokens come from: births and uses as the changes of the cache tell them.

``births`` says of each used token whether it was minted; ``index`` keeps what it needs small.
"""
