"""Audiences: the users to whom given items fit best."""
