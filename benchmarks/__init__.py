"""Scripts that measure. A package, since libraries install one of this name, which would be found instead."""
