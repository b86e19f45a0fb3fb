"""Training data: conversations to ids, labels and the question mask."""
