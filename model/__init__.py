"""The tracker's model. Everything but `model.core` needs torch; nothing is imported here."""
