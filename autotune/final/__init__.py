"""Final training: what it starts from, the training itself, what it is compared with, where its model goes."""
