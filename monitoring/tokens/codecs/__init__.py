"""Decision: one module per encoding family of a cached value; ``token_codecs`` holds the table."""
