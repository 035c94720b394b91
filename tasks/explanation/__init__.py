"""Where in an image a trained model sees what it predicts."""
