"""How a class is learned from few examples, as a plain record. What was chosen by measurement has no option."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FewRecipe:
    """How a class is learned from few examples.

    Attributes:
        keep: the classes of the weights stay.
        use_ignored: ignored objects are examples: right for VOC's difficult ones, wrong for COCO's crowds.
    """

    keep: bool = True
    use_ignored: bool = True
