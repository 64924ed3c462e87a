"""What the service counts and times."""
