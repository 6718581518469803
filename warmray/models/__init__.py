"""Which models exist, how to load them, and adapters on them."""
