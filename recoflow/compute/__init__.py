"""How loops are compiled, threads, computing in advance, and the time that stages take."""
