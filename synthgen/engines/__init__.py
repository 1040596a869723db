"""Who runs which unit, and what is done when one fails."""
