"""From the rows of a request to lists: filters, ranking, constraints, experiments."""
