"""What a tracking job reads and leaves: its files, where it stands, other tools' formats."""
