"""`amused check`: whether a checkpoint is what it should be, and draws what it should draw."""
