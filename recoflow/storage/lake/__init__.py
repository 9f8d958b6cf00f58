"""The lake: Delta tables, how rows are staged, committed, read and purged."""
