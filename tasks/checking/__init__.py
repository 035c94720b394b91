"""A look at data and training before training: findings with grades, what was expected and how to mend it."""
