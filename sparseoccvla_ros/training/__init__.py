"""What only training needs: batches, losses and schedules. Nothing here runs on the car."""
