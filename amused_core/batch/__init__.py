"""Batch jobs: rows of a table become pictures, in any order, on any number of machines, stopped and resumed."""
