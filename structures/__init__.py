"""The words that the rooms share: boxes, records, images, suppression. Imports nothing of ours."""
