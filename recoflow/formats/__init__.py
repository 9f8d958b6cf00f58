"""From text to typed rows: Froomle events, Froomle items and Metarank events, in files and in API bodies.

What belongs here: framing, dialects and the rules about single events. Pure: bytes and paths in, `schema.ParsedBatch`
out. What does not: deduplication, storage, anything that knows other events than the one at hand.
"""
