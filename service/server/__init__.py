"""uvicorn as we bound it, worker threads, and what malloc keeps."""
