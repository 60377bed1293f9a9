"""The detector as a server: photos over HTTP, a page to try it on, metrics."""
