"""What the driver tells of a GPU, beside what torch does: samples, and each inference's share."""
