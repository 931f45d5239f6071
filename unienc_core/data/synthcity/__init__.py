"""A driving world with exact ground truth."""
