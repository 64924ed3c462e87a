"""An STMA-style network: association of objects, references and the test frame in joint blocks.

Of STMA (ECCV 2024) only the abstract's words are known to us: "object self-attention", "reference
object enhancement", "test-reference correlation", a memory bank of features and IDs, all objects in
parallel. Everything else here (backbone, depth, widths, decoder, losses) is our own choice, and no
score of this network is one of STMA's.

Information flows between objects and their reference, and from both to the test frame, never back:
so an entry's keys and values of each block are computed once, exactly. `blocks.py`, `decoder.py`;
`model.py` joins them.
"""
