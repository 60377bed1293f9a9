"""MultiBox, the learned proposal generator (Erhan et al., arXiv 1312.2249; Szegedy et al., arXiv 1412.1441)."""

from proposals.multibox.generator import MultiBox

__all__ = ["MultiBox"]
