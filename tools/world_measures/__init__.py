"""What tools/world_statistics.py measures on a written data set; nothing here knows the generator."""
