"""What several tests share and users don't need."""
