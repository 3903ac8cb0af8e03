"""Six kinds of module that people bring, each with the habits of its kind, on a few random samples."""
