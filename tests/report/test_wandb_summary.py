"""What W&B shows of an experiment: keys over sizes, answers and figures; with several datasets, their names first."""

from bias_lab.report.wandb_summary import study_of
from bias_lab.results import Results, StudyPlan
from tests.planted import curve, rows, table

SIZES = (100, 1000)


def test_statistics_answers_and_figures_of_one_dataset() -> None:
    found = rows(lambda run: curve(run.size) - 0.1 * (run.backbone == "vit_micro"), sizes=SIZES, noise=0.002)
    found += rows(lambda run: 0.7, backbones=["vit_micro"], sizes=SIZES, regime="mae", source="pool")
    study = study_of(Results(table=table(found), plan=StudyPlan(experiment="small_data", profile="laptop")))
    assert (study.name, study.profile) == ("small_data", "laptop")
    assert {"shortfall/scratch", "shortfall/scratch low", "shortfall/mae", "recovery/mae"} <= set(study.logged_keys())
    assert {"accuracy/resnet_micro scratch", "accuracy/vit_micro mae"} <= set(study.logged_keys())
    assert study.summary["verdict"] == "shortfall"
    assert study.answers[1].startswith("Plain ViT falls short of the CNN family at N = 100")
    assert study.answers[0] == f"{study.summary['banner']}"
    assert study.summary["headline"] == ""
    assert set(study.figures) == {"figures/accuracy", "figures/shortfall"}
    png, caption = study.figures["figures/accuracy"]
    assert png.startswith(b"\x89PNG")
    assert caption.startswith("Mean test accuracy over n = 3 replicates")


def test_of_several_datasets_the_name_comes_first() -> None:
    one = rows(lambda run: 0.5, sizes=SIZES)
    study = study_of(Results(table=table([*one, *(r | {"dataset": "cifar10"} for r in one)])), name="x", figures=False)
    assert {"cifar10/verdict", "fashion_mnist_12k/verdict"} <= set(study.summary)
    assert "cifar10/shortfall/scratch" in study.logged_keys()
    assert (study.name, study.figures) == ("x", {})
