"""Break and fix: labs with one planted fault, the grading of its repair, and what a class has come to."""
