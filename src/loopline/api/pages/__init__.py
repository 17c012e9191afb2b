"""Pages that the server draws itself: plain HTML, no script, nothing fetched from elsewhere, light and dark."""
