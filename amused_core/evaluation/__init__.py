"""The ruler: what a model draws, read off its pictures by rule and measured with intervals (`amused eval`)."""
