"""The server: a saved model over HTTP, with a page for photographs."""
