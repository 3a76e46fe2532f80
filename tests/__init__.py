"""The tests of warpspan; what they share is in tests/support."""
