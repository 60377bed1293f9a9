"""How good is it: ground truth readers, matching, average precision, protocols, reports."""
