"""From interactions to a served model: matrix, training, evaluation, the gate and versioned bundles."""
