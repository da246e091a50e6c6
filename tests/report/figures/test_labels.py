"""The words beside a line."""

from bias_lab.report.figures import labels


def test_a_frozen_backbone_from_scratch_is_called_untrained() -> None:
    assert labels.start_label("vit", "scratch", "linear_probe") == "vit (untrained, linear probe)"
    assert labels.start_label("pixels", "scratch", "knn") == "pixels (knn)"
    assert labels.start_label("vit", "mae", "linear_probe") == "vit + mae (linear probe)"
