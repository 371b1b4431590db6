"""What a home of a million records costs to open, to keep and to add to."""
