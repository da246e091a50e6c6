"""The costs that a dry run is estimated from."""

from bias_lab.catalogue import costs


def test_a_cost_grows_with_the_area_of_the_image_and_a_measured_side_comes_first() -> None:
    assert costs.seconds_per_image("vit_micro", 56) == 4 * costs.seconds_per_image("vit_micro", 28)
    assert costs.seconds_per_image("deit_tiny_patch16_224", 96) == 0.023
    assert costs.seconds_per_image("never_seen", 28) == costs.OTHER / 1000


def test_the_backbones_of_the_main_study_are_measured() -> None:
    names = ("vit", "resnet", "efficientnet", "mobilenetv3", "swin", "mobilevit", "efficientvit")
    assert all(costs.is_measured(f"{name}_micro") for name in names)
    assert not costs.is_measured("never_seen")
