"""The small exact pieces the subject starts from, written to be read; and scikit-learn estimators for networks."""
