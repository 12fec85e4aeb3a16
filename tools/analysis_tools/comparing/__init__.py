"""What the comparison of systems on one data set is made of."""
