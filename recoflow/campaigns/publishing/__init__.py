"""From a staged campaign to files: checks, the publisher's audit, rendering."""
