"""The papers' loss by hand and against all matchings tried out; the dense assignment and loss on a few boxes."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from proposals.multibox.losses import IGNORED, NOTHING, assign, dense_loss, quality_loss
from proposals.multibox.paper import ALPHA, match, multibox_loss
from proposals.operators import paired_iou
from structures.boxes import iou


def best_of_all_matchings(logits, locations, objects, alpha):
    """F of the papers, smallest over every way to give each object its own prediction."""
    best = math.inf
    count = min(len(objects), len(logits))
    for chosen in itertools.combinations(range(len(objects)), count):
        for rows in itertools.permutations(range(len(logits)), count):
            total = 0.0
            for i, z in enumerate(logits.tolist()):
                c = 1 / (1 + math.exp(-z))
                total -= math.log(c) if i in rows else math.log(1 - c)
            for i, j in zip(rows, chosen, strict=True):
                total += alpha / 2 * ((locations[i] - objects[j]) ** 2).sum().item()
            best = min(best, total)
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("predictions", "objects"), [(4, 0), (4, 1), (5, 3), (2, 4), (3, 3)])
def test_loss_is_the_smallest_over_all_matchings(seed, predictions, objects):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(predictions, generator=generator, dtype=torch.float64)
    locations = torch.randn((predictions, 4), generator=generator, dtype=torch.float64)
    truths = torch.randn((objects, 4), generator=generator, dtype=torch.float64)
    loss = multibox_loss(logits, locations, truths)
    assert loss.item() == pytest.approx(best_of_all_matchings(logits, locations, truths, ALPHA))


def test_loss_by_hand():
    logits = torch.tensor([0.0, 0.0])
    locations = torch.tensor([[0.0, 0, 0, 0], [1, 1, 1, 1]])
    objects = torch.tensor([[1.0, 1, 1, 3]])
    # The second prediction is nearer: alpha / 2 * 2^2, and -log 1/2 for each confidence.
    assert multibox_loss(logits, locations, objects).item() == pytest.approx(0.3 / 2 * 4 + 2 * math.log(2))


def test_a_confident_prediction_wins_over_a_near_one():
    locations = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 1]], requires_grad=True)
    objects = torch.zeros((1, 4))
    multibox_loss(torch.tensor([0.0, 5.0]), locations, objects).backward()
    assert locations.grad[0].abs().sum() == 0
    assert locations.grad[1].abs().sum() > 0


def test_with_priors_the_nearest_prior_is_matched_whatever_it_predicts():
    priors = torch.tensor([[0.0, 0, 0, 0], [9, 9, 9, 9]])
    locations = torch.tensor([[9.0, 9, 9, 9], [0, 0, 0, 0]], requires_grad=True)
    loss = multibox_loss(torch.zeros(2), locations, torch.zeros((1, 4)), priors=priors)
    assert loss.item() == pytest.approx(0.3 / 2 * 4 * 81 + 2 * math.log(2))
    loss.backward()
    assert locations.grad[1].abs().sum() == 0


def test_without_objects_only_confidences_are_pushed_down():
    logits, locations = torch.zeros(3, requires_grad=True), torch.ones((3, 4), requires_grad=True)
    multibox_loss(logits, locations, torch.zeros((0, 4))).backward()
    assert (logits.grad > 0).all()
    assert locations.grad is None or (locations.grad == 0).all()


def test_alpha_trap_raw_coordinates_hardly_move():
    """Squares of 0..1 coordinates are tiny against a confidence; in units of the spread they are not."""
    spread = 0.03
    raw = torch.full((1, 4), 0.03, requires_grad=True)
    scaled = torch.full((1, 4), 0.03 / spread, requires_grad=True)
    for locations in (raw, scaled):
        multibox_loss(torch.zeros(1), locations, torch.zeros((1, 4))).backward()
    assert raw.grad.abs().max() < 0.01 < 0.25 < scaled.grad.abs().max()


def test_match_by_hand():
    cost = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])
    assert match(cost).tolist() == [1, 0, 2]  # 1 + 2 + 2; the greedy choice of the 0 first would cost 0 + 2 + 4 = 6


def test_match_is_deterministic_with_ties():
    assert all(np.array_equal(match(np.ones((6, 4))), match(np.ones((6, 4)))) for _ in range(5))


def test_assign_by_overlap_and_by_force():
    priors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [100, 100, 110, 110], [50, 50, 60, 60], [51, 50, 60, 60]])
    priors = torch.cat([priors, priors[:1] + 200, priors[:1] + 300, priors[:1] + 400])
    objects = torch.tensor([[0.0, 0, 10, 10], [48, 48, 50.5, 50.5]])
    assigned = assign(priors, objects, torch.tensor([False, False]))
    assert assigned[:2].tolist() == [0, 0]
    assert assigned[3].item() == 1  # hardly overlaps, but no prior is nearer


def test_assign_ignores_without_calling_it_background():
    priors = torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]])
    priors = torch.cat([priors, *(priors[1:] + 20 * i for i in range(1, 5))])
    assigned = assign(priors, priors[:1], torch.tensor([True]))
    assert assigned[0].item() == IGNORED
    assert (assigned != 0).all()
    assert assign(priors, torch.zeros((0, 4)), torch.zeros(0, dtype=torch.bool)).tolist() == [NOTHING] * 6


def test_quality_loss_against_a_loop():
    logits, quality = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.0, 0.7, 0.0])
    total = 0.0
    for z, q in zip(logits, quality, strict=True):
        p = z.sigmoid()
        weight = q if q > 0 else 0.75 * p**2
        total += (weight * functional.binary_cross_entropy(p, q)).item()
    assert quality_loss(logits, quality).item() == pytest.approx(total, rel=1e-5)


def test_dense_loss_of_a_photo_without_objects_still_teaches():
    logits = torch.zeros(4, requires_grad=True)
    boxes = torch.rand((4, 4), requires_grad=True)
    confidence, box, count = dense_loss(logits, boxes, torch.full((4,), NOTHING), torch.zeros((0, 4)))
    confidence.backward()
    assert count == 0
    assert box.item() == 0
    assert (logits.grad > 0).all()


def test_dense_loss_of_a_perfect_box_is_only_its_confidence():
    objects = torch.tensor([[0.0, 0, 10, 10]])
    confidence, box, count = dense_loss(torch.zeros(1), objects.clone(), torch.tensor([0]), objects)
    assert count == 1
    assert box.item() == pytest.approx(0, abs=1e-5)
    assert confidence.item() == pytest.approx(math.log(2), rel=1e-4)


def test_ignored_priors_have_no_loss():
    logits = torch.zeros(2, requires_grad=True)
    boxes = torch.zeros((2, 4))
    dense_loss(logits, boxes, torch.tensor([IGNORED, NOTHING]), torch.zeros((1, 4)))[0].backward()
    assert logits.grad[0] == 0
    assert logits.grad[1] != 0


def test_paired_iou_is_the_diagonal_of_iou():
    rng = np.random.default_rng(0)
    corners = rng.random((2, 20, 2, 2)).astype(np.float32)
    a, b = (np.concatenate([c.min(axis=1), c.max(axis=1)], axis=1) for c in corners)
    np.testing.assert_allclose(
        paired_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy(), np.diag(iou(a, b)), atol=1e-4
    )
