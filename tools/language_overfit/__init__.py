"""Parts of overfit_questions.py and overfit_adapter.py."""
