"""What the training apps share: settings, data, the loop, and what is learned in it."""
