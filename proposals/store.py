"""The earlier place of what is in `proposals.stored` now, for scripts that import it from here."""

from proposals.stored import ProposalStore, StoreError

__all__ = ["ProposalStore", "StoreError"]
