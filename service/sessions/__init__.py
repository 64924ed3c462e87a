"""The main job: sessions are started, tracked, corrected, forked and read."""
