"""The commands of `tamvt`, one file each; `service/__main__.py` lists them."""
