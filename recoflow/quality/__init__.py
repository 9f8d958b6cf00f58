"""Findings of checks, and expectation suites over tables and files. Knows contracts only."""
