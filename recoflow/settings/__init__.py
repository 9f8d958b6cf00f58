"""An environment's YAML: frozen values, and errors that name file, line, key and cure."""
