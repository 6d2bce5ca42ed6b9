"""What Pointsman says of itself: the one register of metric names, and where the numbers are kept."""
