"""The models: factors, item-to-item models, baselines and blends, all as one scorer."""
