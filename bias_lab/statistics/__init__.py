"""Every statistic of the lab: pure functions from a results table (`schema.COLUMNS`) to a table of numbers.

`gaps` has the shortfall and the answer, `curves` what is read off along the sizes, `recovery` what reduces the
shortfall, `contrasts` the comparisons along any axis and between starts, `factors` and `variance` what accuracy varies
with, `ranking` which backbone is ahead, `settled/` what the amount of training does to a comparison, and the numbers of
the headline. Beneath them, `comparisons` tells the comparison at equal images from the settled one, `conditions`
selects the runs of one condition, `replicates` decides which of them may be compared and are independent, `images`
reads which test images they get right, and `intervals` turns arrays into intervals. `masks/` has what is said of label
maps alone: the effects of heads and encoders, parts of the test images, and groups that depend on one another.
"""

from bias_lab.statistics.comparisons import of_optimizers
from bias_lab.statistics.conditions import axes, reference, select_condition, values, with_pretraining
from bias_lab.statistics.contrasts import arms, gains, likewise, matched, moved
from bias_lab.statistics.curves import crossover, learning_curve, sample_efficiency
from bias_lab.statistics.factors import effects
from bias_lab.statistics.gaps import Answer, answer, between, gaps, shortfall
from bias_lab.statistics.intervals import ALPHA
from bias_lab.statistics.masks.heads import heads
from bias_lab.statistics.ranking import ranking
from bias_lab.statistics.recovery import recovery, removed, untrained_starts
from bias_lab.statistics.replicates import comparable, select
from bias_lab.statistics.settled.budgets import budget_gaps, by_budget, rungs
from bias_lab.statistics.settled.chance import chance
from bias_lab.statistics.settled.decomposition import decomposition
from bias_lab.statistics.settled.headline import AtSize, Gap, Headline, headline
from bias_lab.statistics.settled.matched import matched_fit
from bias_lab.statistics.settled.sound import CEILING, unsound
from bias_lab.statistics.variance import power, variance_shares

__all__ = [
    "ALPHA",
    "CEILING",
    "Answer",
    "AtSize",
    "Gap",
    "Headline",
    "answer",
    "arms",
    "axes",
    "between",
    "budget_gaps",
    "by_budget",
    "chance",
    "comparable",
    "crossover",
    "decomposition",
    "effects",
    "gains",
    "gaps",
    "headline",
    "heads",
    "learning_curve",
    "likewise",
    "matched",
    "matched_fit",
    "moved",
    "of_optimizers",
    "power",
    "ranking",
    "recovery",
    "reference",
    "removed",
    "rungs",
    "sample_efficiency",
    "select",
    "select_condition",
    "shortfall",
    "unsound",
    "untrained_starts",
    "values",
    "variance_shares",
    "with_pretraining",
]
