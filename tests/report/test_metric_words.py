"""Words of another metric: every text of a page is said in them, and no name, number or picture changes."""

import pytest

from bias_lab.report.evidence import headline
from bias_lab.report.figures.chart import Chart, Level, Point, Series
from bias_lab.report.metric_words import metrics_in_words, only_cnn, said, task_of
from bias_lab.report.pages import Head, Section, Table, word
from tests.planted import curve, rows, table

CHART = Chart(
    name="accuracy",
    title="Accuracy against labels",
    caption="Mean test accuracy",
    series=(Series(label="my.accuracy:net", points=(Point(x=1, y=0.5, tip="accuracy 50 %"),), hue="cnn"),),
    ylabel="test accuracy, %",
    levels=(Level(y=0.1, words="chance, 10 %"),),
)
SECTION = Section(
    name="accuracy",
    title="Accuracy, at equal images",
    text=("Plain ViT is less accurate on its own training images.", "accuracies"),
    charts=(CHART,),
    tables=(Table(title="top-1", columns=(("test, %", "mean test accuracy"),), rows=((word("accuracy"),),)),),
    pictures=(("top-1 accuracy", b"accuracy"),),
)


def test_every_text_of_a_section_is_said_in_the_words_of_the_metric() -> None:
    found = said([SECTION], "segment")[0]
    chart, shown = found.charts[0], found.tables[0]
    assert (found.name, chart.name) == ("accuracy", "accuracy")
    assert found.title == "mIoU, at equal images"
    assert found.text == ("Plain ViT has a lower mIoU on its own training images.", "mIoU values")
    assert (chart.title, chart.caption, chart.ylabel) == ("mIoU against labels", "Mean test mIoU", "test mIoU, %")
    assert chart.series[0].label == "my.accuracy:net"
    assert chart.series[0].points[0].tip == "mIoU 50 %"
    assert chart.levels == (Level(y=0.1, words="one class for all pixels, 10 %"),)
    assert (shown.title, shown.columns[0][1], shown.rows[0][0].text) == ("mIoU", "mean test mIoU", "mIoU")
    assert found.pictures == (("mIoU", b"accuracy"),)


def test_what_is_said_of_accuracy_stays_as_it_is() -> None:
    assert said([SECTION], "classify")[0] is SECTION


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_reasons_against_a_headline_speak_of_a_level_of_the_metric(task: str) -> None:
    head = said(Head(banner=headline.banner({"at_chance": {"vit_micro": [30]}}, [30])), task)
    level = {
        "segment": "vit_micro at N = 30 is not shown to be better than one class for all pixels",
        "classify": "above chance",
    }
    assert level[task] in head.banner[0]


def test_the_task_of_most_runs_and_all_metrics_are_known() -> None:
    plain = table(rows(lambda run: curve(run.size), sizes=(30,)))
    masks = plain.assign(task="segment")
    assert (task_of(plain), metrics_in_words(plain)) == ("classify", "accuracy")
    assert (task_of(masks), metrics_in_words(masks)) == ("segment", "mIoU")
    assert (task_of(plain.iloc[:0]), metrics_in_words(plain.iloc[:0])) == ("classify", "accuracy")
    mixed = plain.assign(task=["classify"] * 3 + ["segment"] * (len(plain) - 3))
    assert metrics_in_words(mixed) == "accuracy and mIoU"


def test_a_view_with_one_cnn_speaks_of_it_and_not_of_a_family() -> None:
    one = table(rows(lambda run: curve(run.size), sizes=(30,), backbones=("vit_micro", "resnet_micro", "swin_micro")))
    two = table(rows(lambda run: curve(run.size), sizes=(30,), backbones=("vit_micro", "resnet_micro", "resnet_mini")))
    assert (only_cnn(one), only_cnn(two), only_cnn(one.iloc[:0])) == ("ResNet", "", "")
    text = (
        "The CNNs still lead plain ViT. Plain ViT falls short of the CNN family. The CNNs' lead is 3 points. "
        "Images that the CNNs have seen."
    )
    assert said(text, "classify", only_cnn(one)) == (
        "ResNet still leads plain ViT. Plain ViT falls short of ResNet. ResNet's lead is 3 points. "
        "Images that ResNet has seen."
    )
    assert said(text, "classify", only_cnn(two)) == text
    assert said("CNNs' accuracy of my.cnns:net", "segment", "ResNet") == "ResNet's mIoU of my.cnns:net"
