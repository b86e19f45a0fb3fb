"""Training: three stages, one trainer."""
