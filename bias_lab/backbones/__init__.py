"""The lab's backbones: `create` gives any of them, the lab's or timm's, or one's own; ours register with timm.

After `import bias_lab.backbones`, `timm.create_model("bias_lab_vit_tiny_patch16_224", num_classes=8, img_size=64)`
works like timm's own: the lab's names carry the prefix `bias_lab_`.
"""

from bias_lab.backbones.build import create, register_all

__all__ = ["create"]

register_all()
