"""The scoring core: the exact k best items of each user by inner product. It knows arrays only."""
