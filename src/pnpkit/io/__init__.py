"""Reading and writing arrays and images."""
