"""Forgetting a person: every place that holds the ids, how each is cleared, and the proof that none is left."""
