"""Every statistic of the lab: pure functions from a results table (columns of DESIGN 3.1) to a table.

Where to look: `gaps` (shortfall, answer), `curves` (along the sizes), `effects` (what the gap is made of), and beneath
them `replicates` (which rows may be compared, what is independent) and `intervals` (arrays to intervals). This module
only names what is public.
"""

from bias_lab.analysis.curves import crossover, learning_curve, sample_efficiency
from bias_lab.analysis.gaps import Answer, answer, gaps, shortfall

__all__ = [
    "Answer",
    "answer",
    "crossover",
    "gaps",
    "learning_curve",
    "sample_efficiency",
    "shortfall",
]
