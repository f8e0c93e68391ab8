"""Question-answer sets about keyframes, read from their published JSON forms into one record."""
