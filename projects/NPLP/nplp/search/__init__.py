"""What a trained model is used for: embedding images, searching among them, grouping them into people."""
