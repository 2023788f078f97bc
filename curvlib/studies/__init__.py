"""One module for each question: measures, and returns tidy tables."""
