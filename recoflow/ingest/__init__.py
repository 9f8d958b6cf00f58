"""Events and catalogue updates on their way into the lake: each one counts once, each one is accounted for."""
