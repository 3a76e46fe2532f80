"""What warpspan costs, measured from a checkout; none of it is installed."""
