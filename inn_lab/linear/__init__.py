"""How a weight matrix is stored, multiplied and differentiated.

The family's one call shape: every weight matrix is (out, in) and maps (…, in) to (…, out). Each is built from the flat indices
of its trainable entries and their values; `n_weights` counts what trains; `split(columns)` cuts it into two maps, of the first
columns and of the others, that share what a sequence needs to do only once. A model uses nothing else of it.
"""

from inn_lab.linear.masked import Masked

__all__ = ["Masked"]
