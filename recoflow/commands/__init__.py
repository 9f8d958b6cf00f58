"""Groups of `recoflow` commands, one module each; `recoflow.cli` puts them together. Wording only, no rules."""
