"""TAM-VT Serve as an ML backend of Label Studio."""
