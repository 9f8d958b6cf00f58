"""What Dagster sees: assets, checks, jobs, sensors, schedules and resources, built per environment.

What belongs here: the wiring of the stages' functions to Dagster, and the clock. What does not: any rule about data.
This package and `recoflow.definitions` are the only importers of dagster; `from __future__ import annotations` is not
used here, because Dagster reads annotations of assets, resources and sensors at run time.
"""
