"""The lab's backbones. `create` makes a model of any name: the lab's, timm's, or one of your own.

After `import bias_lab.backbones`, `timm.create_model("bias_lab_vit_tiny_patch16_224", num_classes=8, img_size=64)`
works like timm's own. The lab's names have the prefix `bias_lab_` there.

>>> model = create("swin_micro", image_size=32, channels=3, classes=5)
>>> model.get_classifier().out_features
5
"""

from bias_lab.backbones.build import create, register_all

__all__ = ["create"]

register_all()
