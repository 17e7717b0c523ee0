"""How the built-in sounds are made: each `render_…` draws from a generator and returns left and right [2, T]."""
