"""Model families, tuning and the steps that fit them."""
