"""STM: Video Object Segmentation using Space-Time Memory Networks (Oh et al., ICCV 2019).

A frame asks a memory of earlier frames and their masks, each object for itself. Its parts, in the
order of the paper's figure 2: `memory_encoder.py`, `memory_read.py`, `decoder.py`; `model.py` joins
them. Built anew from the paper and from what the published code computes; the authors' weights
load by `published_keys.py` and are not shipped (CC BY-NC-SA 4.0).
"""
