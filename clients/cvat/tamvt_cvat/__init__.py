"""TAM-VT Serve for CVAT: the functions `tamvt_cvat.tracker` and `tamvt_cvat.pointer`."""
