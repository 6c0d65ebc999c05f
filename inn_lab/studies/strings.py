"""Which strings there are, as a table."""

import pandas as pd

from inn_lab.config import NONE, Terms
from inn_lab.data import Reber
from inn_lab.data.grammar import kind
from inn_lab.studies import Job


@Terms(model=NONE, data=(Reber, "these data are no strings; take data=reber"))
def strings(job: Job) -> None:
    """Logs strings.csv, one row a string.

    Columns: `part` (train, val, test), `string`, `valid` (1 or 0, as the data have it) and `kind` (valid, exchanged or
    replaced, as the grammar has it; see `inn_lab.data.grammar.kind`).
    """
    parts = [pd.DataFrame(dict(zip(("string", "valid"), job.data.strings(part), strict=True))) for part in job.data.sizes]
    table = pd.concat(parts, keys=job.data.sizes, names=["part"]).reset_index("part")
    job.run.table("strings", table.assign(kind=table["string"].map(kind)))
