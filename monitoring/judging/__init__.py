"""Decision: one module per component that `health` judges."""
