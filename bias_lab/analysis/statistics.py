"""Every statistic of the lab: pure functions from a results table (columns of DESIGN 3.1) to a table.

This module only names what is public. `gaps`: shortfall, answer. `curves`: along the sizes. `recovery`: what wins
the gap back. `contrasts`: interventions, one start for both, every gain. `factors`, `variance`: what accuracy varies
with. `ranking`: who is ahead. Beneath them, `replicates` says which rows may be compared and what is independent, and
`intervals` turns arrays into intervals.
"""

from bias_lab.analysis.contrasts import arms, gains, likewise, moved
from bias_lab.analysis.curves import crossover, learning_curve, sample_efficiency
from bias_lab.analysis.factors import effects
from bias_lab.analysis.gaps import Answer, answer, gaps, shortfall
from bias_lab.analysis.ranking import ranking
from bias_lab.analysis.recovery import recovery, removed
from bias_lab.analysis.variance import power, variance_shares

__all__ = [
    "Answer",
    "answer",
    "arms",
    "crossover",
    "effects",
    "gains",
    "gaps",
    "learning_curve",
    "likewise",
    "moved",
    "power",
    "ranking",
    "recovery",
    "removed",
    "sample_efficiency",
    "shortfall",
    "variance_shares",
]
