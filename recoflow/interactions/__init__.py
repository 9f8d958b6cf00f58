"""From accepted events to weighted interactions: the catalogue, who is behind a device, weights and decay."""
