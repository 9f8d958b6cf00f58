"""What came of it: checks of tracking, go-live readiness. Knows every stage before it."""
