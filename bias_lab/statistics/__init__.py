"""Every statistic of the lab: pure functions from a results table (columns of DESIGN 3.1) to a table.

This module only names what is public. `gaps`: shortfall, answer. `curves`: along the sizes. `recovery`: what wins
the gap back. `contrasts`: interventions, one start for both, every gain. `factors`, `variance`: what accuracy varies
with. `ranking`: who is ahead. Beneath them, `replicates` says which rows may be compared and what is independent, and
`intervals` turns arrays into intervals.
"""

from bias_lab.statistics.contrasts import arms, gains, likewise, moved
from bias_lab.statistics.curves import crossover, learning_curve, sample_efficiency
from bias_lab.statistics.factors import effects
from bias_lab.statistics.gaps import Answer, answer, gaps, shortfall
from bias_lab.statistics.ranking import ranking
from bias_lab.statistics.recovery import recovery, removed
from bias_lab.statistics.variance import power, variance_shares

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
