"""SegViT's head: the attention of a query for each class to the tokens of a plain ViT is that class's mask.

Zhang et al. 2022, "SegViT", arXiv:2210.05844, section 3. A cascade of decoders reads the tokens of several blocks, the
last block first. In each, the queries attend to the tokens, and the scores before the softmax are the mask logits
(attention to mask). The mask logits of all decoders are summed. A linear layer tells from a query which class it holds,
or none. The score of a class at a place is the sum over queries of P(class) times the sigmoid of the mask.
The official code has norms after the residual connections, dropout, and half the width of the backbone. Here there is
no dropout, and the width is the backbone's. The paper trains masks by focal and Dice loss, with one query for each
class. The lab trains every head by the cross-entropy of a pixel's classes, so that heads are compared and not losses.
So the logits are the logarithm of the score.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bias_lab.backbones.heads.interface import Map, one_resolution, spread
from bias_lab.backbones.linear import Linear
from bias_lab.backbones.shared import Attention, Mlp, init_linear, split_heads

DECODERS = 3  # in the cascade
FLOOR = 1e-6  # of a score, so that its logarithm is finite


class SegViT(nn.Module):
    """Maps of one resolution, each (B, D, H', W') -> logits (B, K, H', W'). A `Head`."""

    def __init__(self, maps: Sequence[Map], classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.taken = spread(len(maps), DECODERS)
        one_resolution([maps[place] for place in self.taken], "segvit")
        D = maps[-1].channels
        heads = next(n for n in range(max(1, D // 32), 0, -1) if D % n == 0)
        self.queries = nn.Parameter(torch.zeros(1, classes, D))
        nn.init.trunc_normal_(self.queries, std=0.02)
        self.inputs = nn.ModuleList(nn.Sequential(Linear(D, D), nn.LayerNorm(D)) for _ in self.taken)
        self.decoders = nn.ModuleList(Decoder(D, heads) for _ in self.taken)
        self.classify = nn.Linear(D, classes + 1)  # the last one is no class
        self.apply(init_linear)

    def forward(self, maps: list[Tensor]) -> Tensor:
        H, W = maps[-1].shape[2:]
        q = self.queries.repeat(len(maps[-1]), 1, 1)  # (B, K, D)
        masks = q.new_zeros(*q.shape[:2], H * W)  # (B, K, N)
        for project, decoder, x in zip(self.inputs, self.decoders, reversed(maps), strict=True):
            tokens = project(x.flatten(2).transpose(1, 2))  # (B, N, D)
            q, scores = decoder(q, tokens)  # (B, K, D), (B, K, N)
            masks = masks + scores  # (B, K, N)
        scores = class_scores(self.classify(q), masks)  # (B, K, N)
        return scores.clamp(min=FLOOR).log().reshape(*scores.shape[:2], H, W)


class Decoder(nn.Module):
    """Queries (B, K, D) and tokens (B, N, D) -> queries (B, K, D) and mask logits (B, K, N)."""

    def __init__(self, D: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.among = Attention(D, heads)
        self.norm1 = nn.LayerNorm(D)
        self.query, self.key, self.value, self.proj = (Linear(D, D) for _ in range(4))
        self.norm2 = nn.LayerNorm(D)
        self.mlp = Mlp(D, 4 * D, nn.ReLU)
        self.norm3 = nn.LayerNorm(D)

    def forward(self, q: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        q = self.norm1(q + self.among(q))  # (B, K, D)
        (query,) = split_heads(self.query(q), 1, self.heads)  # (B, h, K, d)
        (key,) = split_heads(self.key(tokens), 1, self.heads)  # (B, h, N, d)
        (value,) = split_heads(self.value(tokens), 1, self.heads)  # (B, h, N, d)
        x, masks = attention_to_mask(query, key, value)  # (B, h, K, d), (B, K, N)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, K, D)
        q = self.norm2(q + x)  # (B, K, D)
        q = self.norm3(q + self.mlp(q))  # (B, K, D)
        return q, masks


def attention_to_mask(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(S) V, (B, h, K, d), and the mean over heads of S = Q K^T / sqrt(d), (B, K, N) (equations 1 and 2).

    query: (B, h, K, d). key, value: (B, h, N, d). The sigmoid of the second is the mask.
    """
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5  # (B, h, K, N)
    x = scores.softmax(-1) @ value  # (B, h, K, d)
    return x, scores.mean(1)


def class_scores(classes: Tensor, masks: Tensor) -> Tensor:
    """Return the score of each class at each place, in [0, K]: sum over queries of P(class) times the mask.

    classes: logits (B, Q, K + 1) of each query, the last for no class. masks: logits (B, Q, N). Returns (B, K, N).
    """
    probabilities = classes.softmax(-1)[..., :-1]  # (B, Q, K)
    return probabilities.transpose(1, 2) @ F.sigmoid(masks)
