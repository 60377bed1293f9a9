"""The recipe for learning from a few examples. Values that were chosen by measurement are constants elsewhere."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FewRecipe:
    """How to learn classes from a few examples.

    Attributes:
        keep: whether the classes of the weights stay.
        use_ignored: whether ignored objects are examples: right for VOC's difficult ones, wrong for COCO's crowds.
    """

    keep: bool = True
    use_ignored: bool = True
