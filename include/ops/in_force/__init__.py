"""What is in force, and what a person does about it by hand."""
