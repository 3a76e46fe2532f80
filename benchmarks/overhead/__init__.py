"""What an instrumented inference pays."""
