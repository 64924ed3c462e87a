"""HTTP in front of the tracking: thin, one file for each noun."""
