"""Questions and answers about keyframes, made from the facts of a scene."""
