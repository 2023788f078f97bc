"""From notebooks to the pages of the book: catalogue, execution, figures."""
