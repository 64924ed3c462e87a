"""Scores of whole videos: the offline tracker, its runtimes, tables and reports."""
