"""Operating an installation: what is wrong with it, and how it is kept and put back."""
