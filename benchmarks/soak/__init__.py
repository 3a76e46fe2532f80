"""A mixed load for minutes or hours: what is counted, and what grows."""
