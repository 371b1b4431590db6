"""The paper's experiments: that they can fail, and that they hold."""
