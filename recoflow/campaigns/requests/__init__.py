"""Request files: names, CSV, typed rows, and the reasons for which a file or a row is rejected."""
