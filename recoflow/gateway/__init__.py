"""The HTTP and Pub/Sub door: what comes in is judged, put on disk, and only then acknowledged."""
