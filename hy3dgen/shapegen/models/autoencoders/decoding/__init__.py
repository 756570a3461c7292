"""From the features of a shape to its values on a grid: which points to ask for, and asking in slices."""
