"""QMVOS: object queries beside a space-time memory (Zhou et al., ICME 2024), which is XMem's.

A frame's features ask a memory of keys that all objects share; a hidden state and a query of each
object go from frame to frame beside it. In the order of the paper's figure: `keys.py`,
`value_encoder.py`, `memory_read.py`, `queries.py` (SIM and QCIM), `decoder.py`, `hidden_state.py`;
`model.py` joins them. Built anew from the paper and from what the published code computes, with
five mends (docs/models.md); the authors' weights load by `published_keys.py` and are not shipped.
"""
