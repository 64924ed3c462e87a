"""The Python client of TAM-VT Serve."""
