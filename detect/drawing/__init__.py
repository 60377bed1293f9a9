"""Pictures of what was found: boxes, labels that leave each other room, fonts for any script."""
