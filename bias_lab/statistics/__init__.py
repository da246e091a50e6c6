"""Every statistic of the lab: pure functions from a results table (`schema.COLUMNS`) to a table of numbers.

`gaps` has the shortfall and the answer, `curves` what is read off along the sizes, `recovery` what reduces the
shortfall, `contrasts` the comparisons along any axis and between starts, `factors` and `variance` what accuracy varies
with, `ranking` which backbone is ahead. Beneath them, `conditions` selects the runs of one condition, `replicates`
decides which of them may be compared and are independent, `images` reads which test images they get right, and
`intervals` turns arrays into intervals.
"""

from bias_lab.statistics.conditions import axes, reference, select_condition, values, with_pretraining
from bias_lab.statistics.contrasts import arms, gains, likewise, matched, moved
from bias_lab.statistics.curves import crossover, learning_curve, sample_efficiency
from bias_lab.statistics.factors import effects
from bias_lab.statistics.gaps import Answer, answer, between, gaps, shortfall
from bias_lab.statistics.intervals import ALPHA
from bias_lab.statistics.ranking import ranking
from bias_lab.statistics.recovery import recovery, removed, untrained_starts
from bias_lab.statistics.replicates import comparable, select
from bias_lab.statistics.variance import power, variance_shares

__all__ = [
    "ALPHA",
    "Answer",
    "answer",
    "arms",
    "axes",
    "between",
    "comparable",
    "crossover",
    "effects",
    "gains",
    "gaps",
    "learning_curve",
    "likewise",
    "matched",
    "moved",
    "power",
    "ranking",
    "recovery",
    "reference",
    "removed",
    "sample_efficiency",
    "select",
    "select_condition",
    "shortfall",
    "untrained_starts",
    "values",
    "variance_shares",
    "with_pretraining",
]
