"""TAM-VT (arXiv 2312.08514), part by part."""
