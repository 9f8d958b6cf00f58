"""What `recoflow up` runs and watches: the stack, its processes, the Dagster UI behind a guard."""
