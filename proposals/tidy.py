"""Raw boxes of any generator -> Proposals as the protocol promises: whole pixels, inside, no duplicates, best first.

And suppression in compiled code, for generators that make thousands of boxes.
"""

import numpy as np
import numpy.typing as npt

from structures.boxes import Boxes, Floats, ImageSize, clip, unique_rows, whole_image
from structures.nms import best_first
from structures.records import Proposals


def clean_proposals(boxes: Boxes, scores: Floats, image_size: ImageSize, name: str) -> Proposals:
    """Round, clip, rank and deduplicate boxes; add the whole image at the end if it is not there.

    Args:
        boxes: (N, 4) xyxy in pixels of the original photo, of any quality.
        scores: (N,) higher is better; equal scores keep input order.
        image_size: (height, width) of the original photo.
        name: of the generator.

    >>> boxes, scores = np.array([[0, 0, 2.2, 9], [0, 0, 2, 2]], np.float32), np.ones(2, np.float32)
    >>> clean_proposals(boxes, scores, (2, 4), "a").boxes.tolist()
    [[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 4.0, 2.0]]
    """
    lowest = np.array([scores.min(initial=1)], np.float32)
    all_boxes = np.concatenate([boxes, whole_image(image_size)]).astype(np.float32)
    all_scores = np.concatenate([scores, lowest]).astype(np.float32)
    order = best_first(all_scores)
    rounded, all_scores = clip(np.rint(all_boxes[order]), image_size), all_scores[order]
    has_area = (rounded[:, 2:] > rounded[:, :2]).all(axis=1)
    rounded, all_scores = rounded[has_area], all_scores[has_area]
    first = unique_rows(rounded)
    return Proposals(rounded[first], all_scores[first], image_size, source_names=(name,))


tidy = clean_proposals  # the earlier name, for generators that import it


def falling_scores(n: int) -> Floats:
    """Return 1, 1/2, 1/3, ...: the scores of n boxes that are already best first."""
    scores: Floats = (1 / np.arange(1, n + 1)).astype(np.float32)
    return scores


def suppress_quickly(boxes: Boxes, scores: Floats, iou_threshold: float) -> npt.NDArray[np.int64]:
    """Do what `structures.nms.suppress` does, in compiled code: a thousand boxes would take it 20 ms."""
    import torch  # here, since most generators have no network

    from proposals.operators import nms

    order = best_first(scores)
    kept = nms(torch.from_numpy(boxes[order]), torch.arange(len(order), 0, -1, dtype=torch.float32), iou_threshold)
    return np.asarray(order[kept.numpy()], np.int64)
