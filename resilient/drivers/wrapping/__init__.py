"""How a callable becomes a guarded one: what calling it gives, and the wrapper compiled for it."""
