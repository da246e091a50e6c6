"""Claims are made at sound sizes alone, and every other size is named with its reason, in the report and in W&B."""

from bias_lab.report.evidence import claims
from bias_lab.report.evidence.head import PATH_ALONE
from bias_lab.report.wandb_summary import study_of
from bias_lab.results import Results, StudyPlan
from tests.report.evidence.studies import Cell, pair, study
from tests.statistics.settled.test_sound import at

VIEW = study({}, equal=pair(Cell(0.99, 0.6), Cell(0.99, 0.7)))
BROKEN = at(VIEW, 1000, "resnet_micro", collapsed=True)


def test_a_size_with_a_collapsed_cell_is_named_and_the_other_is_claimed() -> None:
    found = claims.of_view(BROKEN)
    assert found.sentences[0].startswith("At equal images, plain ViT falls short of the CNN family at N = 100 by ")
    assert found.sentences[1].startswith(
        "At equal images, nothing is claimed about plain ViT and the CNN family at N = 1,000: runs of resnet_micro at "
    )
    assert found.answer.sizes == (100,)
    assert set(claims.sound(BROKEN)["size"]) == {100}


def test_a_sound_view_is_claimed_whole() -> None:
    found = claims.of_view(VIEW)
    assert (found.answer.sizes, found.flagged, len(found.sentences)) == ((100, 1000), {}, 1)


def test_wandb_claims_what_the_report_claims() -> None:
    summary = study_of(Results(table=BROKEN), figures=False).summary
    assert summary["answer"] == " ".join(claims.of_view(BROKEN).sentences)
    path = study_of(Results(table=VIEW, plan=StudyPlan(profile="smoke")), figures=False).summary
    assert path["answer"] == PATH_ALONE
