"""bias_lab: how much accuracy does an image model lose for lack of inductive bias, and what buys it back?"""

__version__ = "0.1.0"
