"""The tracker's model. Everything but `model.rules` needs torch; nothing is imported here."""
