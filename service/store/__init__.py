"""Redis: sessions, their bytes, the scripts that decide, and quotas."""
