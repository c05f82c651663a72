"""Reading sources row by row with an account of each, and the dataset folder with its columns."""
