"""Training of priors: recipes, data, objectives, and a loop that can be killed and goes on exactly."""
