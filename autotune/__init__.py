"""autotune: find how to train a network, and prove it."""

__version__ = "0.1.0"
