"""Campaigns: a request file in, a personalized response file out."""
