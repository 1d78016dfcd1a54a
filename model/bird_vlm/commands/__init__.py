"""Commands of `bird` that have a file of their own."""
