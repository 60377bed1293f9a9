"""Many photos, results on disk: what `rcnn detect`, `propose` and `classify` do."""
