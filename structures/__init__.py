"""What all rooms share: boxes, records, images, suppression. Imports no other room."""
