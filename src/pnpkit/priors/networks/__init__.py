"""Network architectures; priors wrap them."""
