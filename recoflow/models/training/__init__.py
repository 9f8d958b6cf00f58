"""From tables to a bundle: candidates, their evaluation, the promotion gate, the final training."""
