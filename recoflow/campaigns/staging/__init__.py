"""A campaign on disk between its making and its publication."""
