"""Options that would change nothing are refused: whoever names them expects something."""

from collections.abc import Mapping


def refuse_idle(idle: Mapping[str, bool]) -> None:
    """Refuse options that would change nothing.

    Args:
        idle: complaint -> whether it holds.

    Raises:
        ValueError: one holds.
    """
    for complaint, is_idle in idle.items():
        if is_idle:
            raise ValueError(complaint)
