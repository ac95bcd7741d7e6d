"""Places where ways meet."""
