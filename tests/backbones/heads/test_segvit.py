"""SegViT's head against the formulas of the paper, written out one number at a time."""

import math

import torch

from bias_lab.backbones.heads.interface import Map
from bias_lab.backbones.heads.segvit import SegViT, attention_to_mask, class_scores


def test_attention_to_mask_is_the_formula() -> None:
    torch.manual_seed(0)
    B, h, K, N, d = 2, 3, 4, 5, 6
    query, key, value = torch.randn(B, h, K, d), torch.randn(B, h, N, d), torch.randn(B, h, N, d)
    x, masks = attention_to_mask(query, key, value)
    for b in range(B):
        for k in range(K):
            mean = [0.0] * N
            for head in range(h):
                scores = [
                    sum(float(query[b, head, k, c] * key[b, head, n, c]) for c in range(d)) / math.sqrt(d)
                    for n in range(N)
                ]
                weights = [math.exp(s) / sum(map(math.exp, scores)) for s in scores]
                for c in range(d):
                    expected = sum(w * float(value[b, head, n, c]) for n, w in enumerate(weights))
                    assert math.isclose(float(x[b, head, k, c]), expected, abs_tol=1e-5)
                mean = [m + s / h for m, s in zip(mean, scores, strict=True)]
            assert torch.allclose(masks[b, k], torch.tensor(mean), atol=1e-5)


def test_class_scores_sum_over_queries_and_leave_no_class_out() -> None:
    torch.manual_seed(1)
    classes, masks = torch.randn(1, 3, 4), torch.randn(1, 3, 5)  # 3 queries, 3 classes and none
    scores = class_scores(classes, masks)
    for k in range(3):
        for n in range(5):
            expected = 0.0
            for q in range(3):
                total = sum(math.exp(float(v)) for v in classes[0, q])
                expected += math.exp(float(classes[0, q, k])) / total / (1 + math.exp(-float(masks[0, q, n])))
            assert math.isclose(float(scores[0, k, n]), expected, rel_tol=1e-5)
    certain = torch.full((1, 3, 4), -40.0)
    certain[0, :, 3] = 40.0  # every query holds no class
    assert class_scores(certain, masks).max() < 1e-6


def test_mask_logits_of_all_decoders_are_summed_the_last_block_first() -> None:
    torch.manual_seed(2)
    head = SegViT([Map(32, 3, 4)] * 4, 5, (12, 16)).eval()
    assert head.taken == (1, 2, 3)
    maps = [torch.randn(2, 32, 3, 4) for _ in head.taken]
    q, total = head.queries.repeat(2, 1, 1), torch.zeros(2, 5, 12)
    for project, decoder, x in zip(head.inputs, head.decoders, maps[::-1], strict=True):
        q, scores = decoder(q, project(x.flatten(2).transpose(1, 2)))
        total = total + scores
    expected = class_scores(head.classify(q), total).log().reshape(2, 5, 3, 4)
    assert torch.allclose(head(maps), expected, atol=1e-6)
    assert not torch.allclose(head(maps), head(maps[::-1]), atol=1e-3)


def test_parameters_are_those_of_the_formula() -> None:
    D, K = 32, 5
    head = SegViT([Map(D, 3, 4)] * 4, K, (12, 16))
    square, norm = D * D + D, 2 * D
    decoder = 8 * square + 3 * norm + (D * 4 * D + 4 * D) + (4 * D * D + D)  # attention twice, norms, MLP
    assert sum(p.numel() for p in head.parameters()) == 3 * (square + norm + decoder) + K * D + D * (K + 1) + K + 1


def test_the_softmax_of_the_logits_is_the_share_of_a_class_in_the_scores() -> None:
    torch.manual_seed(3)
    head = SegViT([Map(32, 3, 4)] * 3, 5, (12, 16)).eval()
    logits = head([torch.randn(1, 32, 3, 4) for _ in range(3)])
    assert torch.allclose(logits.softmax(1), logits.exp() / logits.exp().sum(1, keepdim=True), atol=1e-6)
