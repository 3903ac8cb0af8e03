"""What a file of somebody else may do: which names it may make, how large it may be, and which secrets stay out."""
