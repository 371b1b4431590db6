"""Laws over random histories."""
