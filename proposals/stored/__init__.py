"""Boxes on disk: our folders of stored proposals, and what other programs wrote."""

from proposals.stored.generator import StoredProposals
from proposals.stored.reader import ProposalStore, StoreError
from proposals.stored.writer import StoreWriter

__all__ = ["ProposalStore", "StoreError", "StoreWriter", "StoredProposals"]
