"""How good a model is: splits, hold-outs, metrics, comparisons and their tables and charts."""
