"""The networks that see whole photos: MultiBox and shared features, at work on canvases, and in 8 bits."""
