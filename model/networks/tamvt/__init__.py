"""TAM-VT (arXiv 2312.08514), part by part.

Read `reference.py` first: the paper's figure as code, one object at a time, with nothing saved.
Then `model.py`, the same for many objects and sessions at once, and its parts in the order that
data takes: `mask_encoder.py`, `matching.py`, `pixel_decoder.py`, `mask_decoder.py`. The numbers are
in `config.py` and `builds.py`; `build.py` puts the parts together; `published_keys.py` reads the
authors' checkpoints. What makes it fast when it is served is in `model/export/replacements/`.
"""
