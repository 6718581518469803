"""Models: which exist, how to load them, their adapters, and the memory and time of their training."""
