"""Model bundles: their files, validation, versions, and why an item is recommended."""
