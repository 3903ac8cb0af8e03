"""A study as it is kept: where, what of it, what its values depend on, and how it is taken up again."""
